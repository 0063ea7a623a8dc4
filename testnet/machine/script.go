package machine

// script is how a machine begins: an overlay over the common root, its own devices, /proc, /sys, /run and /tmp. It waits for
// a line, so that the network is there before anything looks, and becomes systemd, or a shell that reaps what is orphaned.
//
// Arguments: name, the machine's folder, the root below, "systemd" or "plain".
const script = `name=$1 dir=$2 below=$3 first=$4
mount --make-rprivate /
echo "$name" > /proc/sys/kernel/hostname
mount -t overlay -o "lowerdir=$below,upperdir=$dir/upper,workdir=$dir/work" "$name" "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
[ ! -d sys/fs/cgroup ] || mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
	number=${device#*:} name_of=${device%%:*}
	# nodes of its own, so that what a package does to them is not done to this computer's
	mknod -m 666 dev/$name_of c ${number%:*} ${number#*:} 2>/dev/null && continue
	: > dev/$name_of
	mount --bind /dev/$name_of dev/$name_of
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
echo "$name" > etc/hostname
pivot_root . mnt
cd /
umount -l /mnt
echo ready
read go
exec < /dev/null > /dev/null
if [ "$first" = systemd ]; then
	exec env -i container=muster PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
fi
exec 2> /dev/null
trap : TERM
while :; do
	sleep 1000000 &
	wait
done
`
