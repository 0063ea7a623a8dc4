package lan

// scriptName is hostScript's in a lan's folder; Sweep knows such a folder by it.
const scriptName = "host.sh"

// hostScript is the first process of a host. It makes the host's files: an overlay over the root that it is told, its own
// /proc, /sys, /run, /tmp and terminals, the data disk, and a name for this boot. Then it waits for whatever is orphaned on the host, for ever:
// supervisors of runs outlive their agent and become its children.
//
// Arguments: name, the host's folder, the root below, the folder that all hosts share, the disk's image. The hub is told
// its name alone.
const hostScript = `main() {
	name=$1 dir=$2 below=$3 shared=$4 disk=$5
	mount --make-rprivate /
	echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || :
	echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null || :
	if [ -z "$dir" ]; then
		mount -t proc proc /proc
		mount -t sysfs sysfs /sys
	else
		echo "$name" > /proc/sys/kernel/hostname
		mount -t overlay -o "lowerdir=$below,upperdir=$dir/upper,workdir=$dir/work" "$name" "$dir/root"
		cd "$dir/root"
		mount --bind /dev dev
		mount -t proc proc proc
		mount -t sysfs sysfs sys
		mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
		mount -t tmpfs -o mode=0755 tmpfs run
		mount -t tmpfs -o mode=1777 tmpfs tmp
		cat /proc/sys/kernel/random/uuid > run/boot_id
		mount --bind run/boot_id proc/sys/kernel/random/boot_id
		mkdir -p disk var/lib/muster run/lan
		mount --bind "$shared" run/lan
		mount -o loop,noatime,errors=remount-ro "$disk" disk
		mkdir -p disk/muster
		mount --bind disk/muster var/lib/muster
		pivot_root . mnt
		cd /
		umount -l /mnt
	fi
	echo ready
	exec < /dev/null > /dev/null 2>&1
	while :; do
		sleep 1000000 &
		wait
	done
}
main "$@"
`

// rebootScript is what a host has as shutdown and reboot: every process but the first ends at once, and whoever waits in
// Rebooted switches the host off and on.
const rebootScript = `#!/bin/sh
: > /run/rebooting
kill -KILL -1
`
