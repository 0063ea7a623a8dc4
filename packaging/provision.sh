#!/bin/sh
# Makes this host one of the fleet that node1 founds: the Vagrantfile runs this on every box, and a test on machines.
#
# Arguments: the host's name, its address, a folder that all hosts share and that has the packages, how many hosts there are.
set -eu
name=$1 address=$2 shared=$3 hosts=$4

first() { # of some files, the one that is there
	for file; do
		[ -e "$file" ] && echo "$file" && return
	done
	echo "no package in $shared; build them first: go run ./packaging" >&2
	exit 1
}

if command -v dnf >/dev/null; then
	dnf install -y "$(first "$shared"/muster-*."$(uname -m)".rpm)"
else
	DEBIAN_FRONTEND=noninteractive apt-get install -qy "$(first "$shared"/muster_*_"$(dpkg --print-architecture)".deb)"
fi
if [ "$(firewall-cmd --state 2>/dev/null)" = running ]; then
	firewall-cmd --quiet --permanent --add-service=muster
	firewall-cmd --quiet --reload
fi
if id vagrant >/dev/null 2>&1; then
	usermod --append --groups muster vagrant # may list nodes
fi

if [ "$name" = node1 ]; then
	if ! [ -e /var/lib/muster/identity ]; then
		rm -f "$shared/join"
		muster init --fleet lab --name "$name" --bind "$address:7980" --recovery-file /root/muster-recovery.key
	fi
	(umask 077 && muster token create --uses "$hosts" --expires 24h > "$shared/join.new")
	mv "$shared/join.new" "$shared/join"
elif ! [ -e /var/lib/muster/identity ]; then
	tries=600
	until [ -e "$shared/join" ]; do # boxes may start side by side
		tries=$((tries - 1))
		[ $tries -gt 0 ] || { echo "node1 has left no $shared/join" >&2; exit 1; }
		sleep 1
	done
	muster join --join-file "$shared/join" --name "$name" --bind "$address:7980"
fi
muster status
