package main

import (
	"bufio"
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// maxSpeed is how fast a recording is replayed at most: an hour in a second.
const maxSpeed = 3600

func newSessionReplayCommand(a *app) *cobra.Command {
	var where sessionPlace
	pace := cast.Pace{Speed: 1}
	cmd := &cobra.Command{
		Use: "replay ID", Short: "Watch what a session looked like", Args: exactly(1, oneSession),
		Long: `Watch what a session looked like, at the speed at which it was, or faster. The node sends the recording; one that is sealed to
auditors is opened here, with your key.

Only what draws is shown: nothing that the session's program wrote can ask or tell your terminal anything, unless you want it
with --raw.`,
		Example: `  muster session replay 0195
  muster session replay 0195 --speed 8 --max-pause 2s
  muster session replay 0195 --node web07 --from 10m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if math.IsNaN(pace.Speed) || pace.Speed <= 0 || pace.Speed > maxSpeed {
				return fleet.Errorf(fleet.Invalid, "--speed is above 0 and at most %d", maxSpeed)
			}
			if pace.Idle < 0 || pace.From < 0 {
				return fleet.Errorf(fleet.Invalid, "no time is less than nothing")
			}
			return a.replaySession(cmd.Context(), where, args[0], pace)
		},
	}
	where.flags(a, cmd)
	flags := cmd.Flags()
	flags.Float64Var(&pace.Speed, "speed", pace.Speed, "times as fast as it was")
	flags.Var((*lifespan)(&pace.Idle), "max-pause", "no wait is longer than this (default: as long as it was)")
	flags.Var((*lifespan)(&pace.From), "from", "begin so far behind the beginning")
	flags.BoolVar(&pace.Raw, "raw", false, "let through everything that the program wrote, whatever it does to this terminal")
	return cmd
}

func (a *app) replaySession(ctx context.Context, where sessionPlace, text string, pace cast.Pace) error {
	ctx, stop := a.untilTold(ctx)
	defer stop()
	s, err := a.findSession(ctx, where, text)
	if err != nil {
		return err
	}
	defer s.Close()
	if len(s.row.Forward) > 0 {
		a.say("nothing is shown in a tunnel; its connections: muster session export %s --format commands", s.row.ID)
	}
	return s.recording(ctx, a, func(r *cast.Reader) error {
		err := cast.Play(ctx, r, a.stdout, a.stderr, pace)
		if err == nil && !r.Whole() {
			a.say("the recording has no end: the session runs, or its host died")
		}
		if ctx.Err() != nil { // whoever watches has seen enough
			return nil
		}
		return err
	})
}

func newSessionExportCommand(a *app) *cobra.Command {
	var where sessionPlace
	var format, out string
	cmd := &cobra.Command{
		Use: "export ID", Short: "Write the recording of a session to a file", Args: exactly(1, oneSession),
		Long: `Write the recording of a session to a file, or to standard output. One that is sealed to auditors is opened, with your key.

Formats: cast for asciinema's players, txt as it stood on the screen, commands with the time of each line that was entered, of
each connection and each file, raw with the very bytes that the program wrote.`,
		Example: `  muster session export 0195 --to 0195.cast
  muster session export 0195 --format txt
  muster session export 0195 --node web07 --format commands`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := cast.ParseFormat(format)
			if err != nil {
				return err
			}
			return a.exportSession(cmd.Context(), where, args[0], f, out)
		},
	}
	where.flags(a, cmd)
	cmd.Flags().StringVar(&format, "format", string(cast.FormatCast), "cast, txt, commands or raw")
	cmd.Flags().StringVar(&out, "to", "", "the file; it must not exist (default: standard output)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(
		[]string{string(cast.FormatCast), string(cast.FormatText), string(cast.FormatCommands), string(cast.FormatRaw)}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) exportSession(ctx context.Context, where sessionPlace, text string, format cast.Format, path string) error {
	if path == "" && format == cast.FormatRaw && isTerminal(a.stdout) {
		return fleet.Errorf(fleet.Invalid, "raw is not for a terminal: what the program wrote may do anything to it").
			Hinted("--to FILE, or muster session replay %s", text)
	}
	s, err := a.findSession(ctx, where, text)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.recording(ctx, a, func(r *cast.Reader) error {
		if path == "" {
			return cast.Export(a.stdout, r, format)
		}
		return writeNew(path, func(w io.Writer) error { return cast.Export(w, r, format) })
	})
}

// recording brings a session's recording, and holds it to the digest that the node keeps of it.
func (s *sessionFound) recording(ctx context.Context, a *app, use func(*cast.Reader) error) error {
	from, err := s.bytes(ctx, a)
	if err != nil {
		return err
	}
	defer from.Close()
	defer context.AfterFunc(ctx, func() { from.Close() })()
	got := &summed{from: bufio.NewReaderSize(from, 64<<10), hash: sha256.New()}
	r, err := cast.Open(got, s.pen.auditorKey)
	if err == nil {
		err = use(r)
	}
	if err == nil && ctx.Err() == nil && got.ended && s.row.Digest != nil && fleet.ID(got.hash.Sum(nil)) != *s.row.Digest {
		err = fleet.Errorf(fleet.Internal, "the recording is not what %s reported when the session ended: its digest differs", s.at.Name).
			Hinted("do not trust it: somebody changed it on the node")
	}
	return err
}

// bytes brings the recording's bytes from the node, or from a server that has a copy.
func (s *sessionFound) bytes(ctx context.Context, a *app) (io.ReadCloser, error) {
	if s.copy != nil {
		return s.fromCopy(ctx, a)
	}
	_, from, err := s.ask(ctx, s.at, node.ReadRecording, s.row.ID)
	if err == nil || !mayBeCopied(err) {
		return from, err
	}
	copied, later := a.findCopy(ctx, s.pen, s.row.Node.ID.Text(), s.row.ID.String()) // its node may have let go of it
	if later != nil {
		return nil, err
	}
	s.beside, s.copy = append(s.beside, copied.sessionEnd), copied.copy
	return copied.fromCopy(ctx, a)
}

// summed is a reader that sums up what was read.
type summed struct {
	from  io.Reader
	hash  hash.Hash
	ended bool // all was read
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.hash.Write(p[:n])
	s.ended = s.ended || errors.Is(err, io.EOF)
	return n, err
}

// auditorKey is the operator's key for secrets, if a recording is sealed to it.
func (p *pen) auditorKey(auditor fleet.ID) []byte {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(p.who.HPKE)
	if err != nil || fleet.Sum(key.PublicKey().Bytes()) != auditor {
		return nil
	}
	return p.who.HPKE
}

// writeNew writes a file that does not exist yet: all of it, or nothing.
func writeNew(path string, write func(io.Writer) error) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".muster-*") // mode 0600
	if err != nil {
		return fleet.Errorf(fleet.Invalid, "--to: %w", err)
	}
	defer os.Remove(temp.Name())
	buffer := bufio.NewWriter(temp)
	err = write(buffer)
	if err == nil {
		err = buffer.Flush()
	}
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	err = os.Link(temp.Name(), path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fleet.Errorf(fleet.Conflict, "%s is there already, and stays", path).Hinted("another name for --to")
	case err != nil:
		return fleet.Errorf(fleet.Invalid, "--to: %w", err)
	}
	return nil
}
