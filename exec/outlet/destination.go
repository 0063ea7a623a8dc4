package outlet

import (
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/exec/s3"
	"github.com/muster-fleet/muster/node/fleet"
)

// MaxDestination is the longest destination, in bytes.
const MaxDestination = 2048

const syslogWord = "syslog"

// Check reports what is wrong with a destination on the face of it, or nil: it is "syslog", an absolute folder, or
// s3://BUCKET/PREFIX, which takes ?endpoint=URL&region=NAME.
func Check(to string) error {
	_, err := parse(to, s3.Defaults{})
	return err
}

// destination is where copies go.
//
//sumtype:decl
type destination interface{ destination() }

type (
	toSyslog struct{}
	toFolder struct{ path string }
	toBucket struct{ place s3.Place }
)

func (toSyslog) destination() {}
func (toFolder) destination() {}
func (toBucket) destination() {}

func parse(to string, d s3.Defaults) (destination, error) {
	switch {
	case len(to) > MaxDestination:
		return nil, fleet.Errorf(fleet.Invalid, "a destination of %d bytes; at most %d", len(to), MaxDestination)
	case strings.ContainsFunc(to, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, fleet.Errorf(fleet.Invalid, "the destination holds control characters")
	case to == syslogWord:
		return toSyslog{}, nil
	case filepath.IsAbs(to):
		return toFolder{filepath.Clean(to)}, nil
	case strings.HasPrefix(to, "s3://"):
		p, err := s3.Parse(to, d)
		if err != nil {
			return nil, err
		}
		// A key ends with the command, the node and the stream.
		if room := s3.MaxKey - len(below(fleet.UUID{}, strings.Repeat("n", 63), longestStream)) - 1; len(p.Key) > room {
			return nil, fleet.Errorf(fleet.Invalid, "the prefix has %d bytes; at most %d leave room for the rest of the key", len(p.Key), room)
		}
		return toBucket{p}, nil
	}
	return nil, fleet.Errorf(fleet.Invalid, "%q is no place for output", to).Hinted("syslog, an absolute folder, or s3://BUCKET/PREFIX")
}

// The streams: what a run wrote, and of a session its recording, and what was entered, copied and connected, in lines.
const (
	streamOut   = "stdout"
	streamErr   = "stderr"
	StreamCast  = "session.cast"
	StreamLines = "commands"

	longestStream = StreamCast
)

// StreamsOf lists what is copied of a session to a destination: a log takes lines, everything else takes files.
func StreamsOf(to string) []string {
	if to == syslogWord {
		return []string{StreamLines}
	}
	return []string{StreamCast}
}

func streamsOfRun(string) []string { return []string{streamOut, streamErr} }

// below returns the path of a stream under any destination.
func below(command fleet.UUID, node, stream string) string {
	return command.String() + "/" + node + "/" + stream
}
