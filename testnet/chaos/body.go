package main

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
)

// Body is what a command runs. All of it is known beforehand: what it writes, how it ends, how long it takes.
type Body string

// The bodies.
const (
	Says      Body = "says"      // a line, and succeeds
	Fails     Body = "fails"     // with exit code 3
	Floods    Body = "floods"    // more output than a report carries
	Sleeps    Body = "sleeps"    // a while, and succeeds
	Wavers    Body = "wavers"    // a while, and fails on every third host
	Waits     Body = "waits"     // to be cancelled
	Overstays Body = "overstays" // its timeout
	Stubborn  Body = "stubborn"  // overstays, and does not heed SIGTERM
	Leaves    Body = "leaves"    // a daemon behind, which may live, and succeeds
	Broods    Body = "broods"    // waits to be cancelled, with a daemon that must die with it
	Tells     Body = "tells"     // notes the MD5 of the parameters that it is told, prints the secret one, and succeeds
	Reads     Body = "reads"     // the same by a document, which prints no secret
)

const (
	failsWith = 3
	floodSize = 70_000 // bytes
	// notes is the file on every host in which runs note what they do. It lies outside the agent's folder.
	notes = "/var/log/chaos-notes"
	// markUnit makes an operation's number a fraction of a second, which sleep takes as one more argument: so one knows a
	// process by its argv also when it has cleared its environment.
	markUnit = 1e-6
)

func mark(op int) string { return fmt.Sprintf("%.6f", float64(op)*markUnit) }

// script returns the shell line of a command. It notes its beginning with the MD5 of its own argv, so that the notes say
// what ran and not what should have.
func (a Ask) script() string {
	head := fmt.Sprintf(`O=%d; n() { echo "$1 $(date +%%s%%N) $MUSTER_COMMAND_ID $MUSTER_NODE $O $$ $2" >> %s; }; `+
		`M=$(md5sum < /proc/$$/cmdline); n start "${M%%%% *}"; `, a.Op, notes)
	nap := fmt.Sprintf("sleep %d.%03d %s", a.LastsMS/1000, a.LastsMS%1000, mark(a.Op))
	stop := "trap 'n stop; exit 143' TERM; "
	wait := fmt.Sprintf("echo begin $O; %s & wait $! || { n stop; exit 143; }; echo done; n end 0", nap)
	daemon := fmt.Sprintf("setsid env -i sleep 120 %s < /dev/null > /dev/null 2>&1 & ", mark(a.Op))
	switch a.Body {
	case Says:
		return head + "echo op $O on $MUSTER_NODE; n end 0"
	case Fails:
		return head + fmt.Sprintf("echo op $O fails; n end %d; exit %d", failsWith, failsWith)
	case Floods:
		return head + fmt.Sprintf(`yes "op $O on $MUSTER_NODE" | head -c %d; n end 0`, floodSize)
	case Sleeps, Waits, Overstays:
		return head + stop + wait
	case Wavers:
		return head + stop + fmt.Sprintf(`c=0; [ $((${MUSTER_NODE#n} %% 3)) != 0 ] || c=%d; echo begin $O; %s & wait $! || { n stop; exit 143; }; echo done; n end $c; exit $c`,
			failsWith, nap)
	case Stubborn:
		return head + fmt.Sprintf(`trap 'n stop' TERM; echo begin $O; i=0; while [ $i -lt %d ]; do sleep 1 %s & wait $!; i=$((i+1)); done; echo done; n end 0`,
			a.LastsMS/1000, mark(a.Op))
	case Tells:
		return head + fmt.Sprintf(`P=$(printf %%s "$%s" | md5sum); S=$(printf %%s "$%s" | md5sum); n told "${P%%%% *}${S%%%% *}"; echo "op $O on $MUSTER_NODE"; `+
			`[ -z "$%s" ] || echo "$%s"; n end 0`, plainVar, sealedVar, sealedVar, sealedVar)
	case Reads:
		return "" // the document has it
	case Leaves:
		return head + daemon + "echo op $O on $MUSTER_NODE; n end 0"
	case Broods:
		return head + stop + daemon + wait
	}
	return head + "n end 0"
}

// does returns what a command is known by in the notes: the MD5 of its argv; of a document, whose script has a name of its
// node's own, the operation.
func (a Ask) does() string {
	if a.Body == Reads {
		return fmt.Sprintf("document-%d", a.Op)
	}
	return fingerprint(a.script())
}

// writes returns all that the command writes to standard output on a node.
func (a Ask) writes(node string) string {
	line := fmt.Sprintf("op %d on %s\n", a.Op, node)
	switch a.Body {
	case Says, Leaves, Reads:
		return line
	case Tells:
		if a.Sealed != "" {
			return line + masked
		}
		return line
	case Fails:
		return fmt.Sprintf("op %d fails\n", a.Op)
	case Floods:
		return strings.Repeat(line, floodSize/len(line)+1)[:floodSize]
	case Sleeps, Wavers, Waits, Overstays, Stubborn, Broods:
		return fmt.Sprintf("begin %d\ndone\n", a.Op)
	}
	return ""
}

// fingerprint is the MD5 of the argv that a shell line becomes.
func fingerprint(script string) string {
	sum := md5.Sum([]byte("/bin/sh\x00-c\x00" + script + "\x00"))
	return hex.EncodeToString(sum[:])
}
