package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// replicaVerb is the word by which this command starts itself as one replica of a trio.
const replicaVerb = "replica"

// profileVariable names, in the environment, a folder that each replica writes a CPU profile of its life to.
const profileVariable = "FIGURES_PROFILE"

// replica is one process of a trio.
type replica struct {
	part
	ids    []fleet.ID
	end    *transport.Endpoint
	quorum *quorum.Quorum
	values *values
}

// values is the machine: the newest value of each key.
type values struct {
	mu    sync.RWMutex
	byKey map[string][]byte
}

// Apply keeps a value.
func (v *values) Apply(_ uint64, item []byte) any {
	key, value, ok := splitTrioItem(item)
	if !ok {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.byKey[key] = value
	return nil
}

// Snapshot writes nothing: a trio lives for one measurement, and its log is kept.
func (v *values) Snapshot() func(io.Writer) error { return func(io.Writer) error { return nil } }

// Restore has nothing to read.
func (v *values) Restore(io.Reader) error { return nil }

func (v *values) get(key string) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.byKey[key]
}

// runReplica is the whole process: it ends with its standard input.
func runReplica(stdin io.Reader, stdout io.Writer) (err error) {
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	r := &replica{values: &values{byKey: map[string][]byte{}}}
	if err := json.Unmarshal(line, &r.part); err != nil {
		return err
	}
	if dir := os.Getenv(profileVariable); dir != "" {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("replica%d.pprof", r.Index)))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := r.open(); err != nil {
		return err
	}
	if r.Index == 0 {
		if err := r.gather(); err != nil {
			return err
		}
	}
	listener, err := net.Listen("unix", r.Socket)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	fmt.Fprintln(stdout, "ready")
	_, _ = io.Copy(io.Discard, in)
	return nil // the process takes all else with it
}

type open struct{}

func (open) Prove(transport.Plane) []byte                  { return nil }
func (open) Admit(fleet.ID, transport.Plane, []byte) error { return nil }
func (open) Allow(fleet.ID, transport.Plane) error         { return nil }
func (r *replica) Open(ctx context.Context, id fleet.ID, bulk bool) (net.Conn, error) {
	if bulk {
		return r.end.Open(ctx, id, transport.RaftBulk)
	}
	return r.end.Open(ctx, id, transport.Raft)
}

const (
	askTerm        byte = 1
	askIncarnation byte = 2
	told           byte = 3
)

func (r *replica) open() error {
	for _, seed := range r.Seeds {
		r.ids = append(r.ids, fleet.Sum(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)))
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(r.Addrs[r.Index]))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r.end, err = transport.New(transport.Config{
		Conn: conn, Key: ed25519.NewKeyFromSeed(r.Seeds[r.Index]), Fleet: fleet.Sum([]byte("trio")), Gate: open{}, Log: log,
		Addrs: func(id fleet.ID) []netip.AddrPort {
			if i := slices.Index(r.ids, id); i >= 0 {
				return r.Addrs[i : i+1]
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(r.Dir, fmt.Sprintf("raft%d", r.Index))
	r.quorum, err = quorum.Open(quorum.Config{
		Dir: dir, Self: r.ids[r.Index], Machine: r.values, Streams: r, Log: log,
		Eligible: func(id fleet.ID) bool { return slices.Contains(r.ids, id) }, Confirm: r.confirm,
		SnapshotEntries: 1 << 40, SnapshotBytes: 1 << 40,
	})
	if err != nil {
		return err
	}
	r.end.Handle(transport.Raft, func(s *transport.Stream) { _ = r.quorum.Accept(s, s.Peer(), false) })
	r.end.Handle(transport.RaftBulk, func(s *transport.Stream) { _ = r.quorum.Accept(s, s.Peer(), true) })
	r.end.Handle(transport.Peer, r.answer)
	return r.end.Start()
}

func (r *replica) confirm(ctx context.Context, voter fleet.ID, incarnation, term uint64) error {
	body := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, incarnation), term)
	_, _, err := r.end.Request(ctx, voter, transport.Peer, askTerm, body)
	return err
}

func (r *replica) answer(s *transport.Stream) {
	defer s.Close()
	kind, body, err := s.ReadFrame()
	if err != nil {
		return
	}
	switch {
	case kind == askIncarnation:
		body = binary.BigEndian.AppendUint64(nil, r.quorum.Incarnation())
	case kind == askTerm && len(body) == 16:
		if err := r.quorum.ConfirmTerm(binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])); err != nil {
			_ = s.WriteError(err)
			return
		}
		body = nil
	}
	_ = s.WriteFrame(told, body)
}

// gather founds the quorum and takes the others in as voters.
func (r *replica) gather() error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if err := r.quorum.Bootstrap(); err != nil {
		return err
	}
	known := map[fleet.ID]uint64{}
	for ctx.Err() == nil {
		in := r.quorum.Status().Inputs()
		in.Now, in.Nodes = time.Now(), len(r.ids)
		for i, id := range r.ids {
			if i != r.Index && known[id] == 0 {
				if _, body, err := r.end.Request(ctx, id, transport.Peer, askIncarnation, nil); err == nil && len(body) == 8 {
					known[id] = binary.BigEndian.Uint64(body)
				}
			}
			c := quorum.Candidate{ID: id, Incarnation: known[id], Alive: true}
			if i == r.Index {
				c.Incarnation = r.quorum.Incarnation()
			}
			if c.Incarnation != 0 {
				in.Servers = append(in.Servers, c)
			}
		}
		if s := r.quorum.Status(); s.State == quorum.Leading && len(s.Voters) == len(r.ids) {
			return nil
		}
		if change, _ := quorum.NextChange(in); change.Do != quorum.Keep {
			_ = r.quorum.Change(ctx, change)
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// serve answers the clients of one connection: what came in one piece is read at once, and answers leave in one piece, too.
func (r *replica) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 256<<10)
	back := &lane{conn: conn}
	for {
		var reads []trioRead
		for {
			id, kind, body, err := readTrioFrame(in)
			if err != nil {
				return
			}
			switch kind {
			case trioPut:
				go func() {
					_, err := r.quorum.Propose(context.Background(), body)
					back.answer(id, nil, err)
				}()
			case trioGet:
				reads = append(reads, trioRead{id, string(body)})
			case trioStale:
				back.answer(id, r.values.get(string(body)), nil)
			}
			if in.Buffered() == 0 {
				break
			}
		}
		if len(reads) > 0 {
			go func() {
				err := r.quorum.Read(context.Background())
				for _, read := range reads {
					back.answer(read.id, r.values.get(read.key), err)
				}
			}()
		}
	}
}

type trioRead struct {
	id  uint32
	key string
}

// answer puts an answer behind those that wait for the last piece to leave.
func (l *lane) answer(id uint32, body []byte, err error) {
	kind := byte('a')
	if err != nil {
		kind, body = trioError, []byte(err.Error())
	}
	l.mu.Lock()
	l.waiting = appendTrioFrame(l.waiting, id, kind, body)
	write := !l.writing
	l.writing = true
	l.mu.Unlock()
	if write {
		go l.write()
	}
}
