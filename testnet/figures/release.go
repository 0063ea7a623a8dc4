package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// town is how a release is brought to hosts: from the first to all others, over links of their own.
type town struct {
	hosts  int // that it is brought to
	bits   int // a second, of each link in each direction
	bytes  int // of the file; of noise, which nothing makes smaller
	rounds int // by muster, each with another release
}

// Where hosts have room in memory: for releases, and for what scp copies.
const (
	releasesFolder = "/var/lib/muster/releases"
	scpFolder      = "/mnt"
)

// measureRelease brings a file to twenty hosts by scp, all at once and one after the other, and as a release from peer to
// peer, in one run.
func measureRelease(ctx context.Context, p place) ([]figure, error) {
	return town{hosts: 20, bits: 100_000_000, bytes: 25_000_000, rounds: 3}.measure(ctx, p)
}

// measure has both sides in the same town.
func (w town) measure(ctx context.Context, p place) (out []figure, err error) {
	b, err := newBench(ctx, options{rest: 4 * time.Second}, p.muster, w.hosts+1)
	defer func() { err = errors.Join(err, b.down()) }()
	if err != nil {
		return nil, err
	}
	if err := b.widen(ctx); err != nil {
		return nil, err
	}
	s, err := newScpTown(ctx, b, filepath.Join(b.lan.Dir(), "shared"))
	if err != nil {
		return nil, err
	}
	defer s.end()
	key := auth.NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)))
	if err := b.trust(ctx, key); err != nil {
		return nil, err
	}
	for _, h := range b.hosts {
		if err := h.Bandwidth(w.bits); err != nil {
			return nil, err
		}
	}
	var ours []spreadRound
	for i := range w.rounds {
		p.say("release: from peer to peer, %d of %d", i+1, w.rounds)
		one, err := b.spreadRelease(ctx, key, w.bytes, uint64(i))
		if err != nil {
			return nil, err
		}
		ours = append(ours, one)
	}
	file := filepath.Join(b.lan.Dir(), "shared", "noise")
	if err := os.WriteFile(file, noise(w.bytes, 99), 0o600); err != nil {
		return nil, err
	}
	p.say("release: scp, all at once")
	atOnce, err := s.all(ctx, true)
	if err != nil {
		return nil, err
	}
	p.say("release: scp, one after the other")
	inRow, err := s.all(ctx, false)
	return w.figures(ours, atOnce, inRow), err
}

func (w town) figures(ours []spreadRound, atOnce, inRow time.Duration) []figure {
	var took, copies, mean, cpu []float64
	for _, o := range ours {
		cpu = append(cpu, o.cpu.Seconds())
		took = append(took, o.took.Seconds())
		copies = append(copies, float64(o.sent)/float64(w.bytes))
		mean = append(mean, o.mean.Seconds())
	}
	what := fmt.Sprintf("%d MB to %d hosts, %d Mbit/s each way", w.bytes/1e6, w.hosts, w.bits/1e6)
	return []figure{
		{key: "release_muster_p50_seconds", name: what + ": from peer to peer, p50", unit: seconds, value: median(took),
			note: "from the source's taking the file until the last host has unpacked and verified it; all on one machine, whose processors bear both ends of each link; written to memory, as scp's copies"},
		{key: "release_muster_max_seconds", name: "from peer to peer, slowest", unit: seconds, value: largest(took)},
		{key: "release_muster_host_p50_seconds", name: "from peer to peer, a host, mean", unit: seconds, value: median(mean)},
		{key: "release_muster_cpu_p50_seconds", name: "from peer to peer, CPU of all agents, p50", unit: seconds, value: median(cpu),
			note: "where this by the number of processors is near the time that it took, the machine and not the links bounded it"},
		{key: "release_scp_seconds", name: "scp, all at once", unit: seconds, value: atOnce.Seconds(), note: "curve25519; without muster's traffic on the links"},
		{key: "release_scp_row_seconds", name: "scp, one after the other", unit: seconds, value: inRow.Seconds()},
		figure{key: "release_ratio", name: "from peer to peer, of scp's time", unit: times,
			value: median(took) / min(atOnce, inRow).Seconds()}.atMost(0.25).noted("of the quicker of scp's two"),
		figure{key: "release_copies_max_count", name: "copies that left the source, most", unit: count, value: largest(copies)}.atMost(3).
			noted("all bytes on its cable by the file's, so headers and what else the agent says count too"),
	}
}

// noise is what no packer makes smaller: a release of it is as many bytes on the wire as scp's file.
func noise(size int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	b := make([]byte, size)
	_, _ = r.Read(b) // it never fails
	return b
}

// trust has the fleet take releases of a key, and waits until every node knows.
func (b *bench) trust(ctx context.Context, key auth.Signer) error {
	founder := b.hosts[0]
	var said string
	if err := until(ctx, look, "the fleet takes release.keys", func() (bool, error) { // its level rises first
		r := founder.Muster(ctx, "setting", "put", auth.SettingReleaseKeys, auth.FormatReleaseKey(key.Public()))
		said = r.Stderr
		return r.Code == 0, nil
	}); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	s, err := b.clients[founder.Name()].Status(ctx)
	if err != nil {
		return err
	}
	return b.all(ctx, "knows whose releases to take", func(other node.Status) bool { return other.CharterHead == s.CharterHead })
}

// spreadRound is one release's way.
type spreadRound struct {
	took time.Duration // until the last host had it
	mean time.Duration // until a host had it
	sent uint64        // bytes that the source sent in that time, of all kinds
	cpu  time.Duration // of all agents
}

// spreadRelease brings a new release to the first host's agent, and from there to all others.
func (b *bench) spreadRelease(ctx context.Context, key auth.Signer, size int, seed uint64) (out spreadRound, err error) {
	file, err := releaseFile(key, size, seed)
	if err != nil {
		return out, err
	}
	source := b.hosts[0]
	before, err := source.Traffic()
	if err != nil {
		return out, err
	}
	used, err := b.cpu()
	if err != nil {
		return out, err
	}
	began := time.Now()
	r, err := b.clients[source.Name()].PutRelease(ctx, bytes.NewReader(file), auth.Envelope{})
	if err != nil {
		return out, err
	}
	if err := b.fetchAll(ctx, r, began, &out); err != nil {
		return out, err
	}
	after, err := source.Traffic()
	if err != nil {
		return out, err
	}
	out.sent = after.SentBytes - before.SentBytes
	now, err := b.cpu()
	out.cpu = now - used
	return out, err
}

// fetchAll has all but the first host fetch a release, and lets go of it everywhere afterwards.
func (b *bench) fetchAll(ctx context.Context, r release.Release, began time.Time, out *spreadRound) error {
	s, err := b.clients[b.hosts[0].Name()].Status(ctx)
	if err != nil {
		return err
	}
	others := b.hosts[1:]
	took, failed := make(chan time.Duration, len(others)), make(chan error, len(others))
	for _, h := range others {
		go func() {
			_, err := b.clients[h.Name()].FetchRelease(ctx, r.Digest, []fleet.ID{s.Self.ID}, nil)
			took <- time.Since(began)
			if err != nil {
				err = fmt.Errorf("%s: %w", h.Name(), err)
			}
			failed <- err
		}()
	}
	for range others {
		one := <-took
		out.took, out.mean = max(out.took, one), out.mean+one/time.Duration(len(others))
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		return err
	}
	for _, h := range b.hosts {
		err = errors.Join(err, b.clients[h.Name()].GiveUpRelease(ctx, r.Digest))
	}
	return err
}

// widen gives every host room in memory for releases, and for what scp copies: hosts' disks are small, and all lie on the
// machine's one disk, which is not what is compared.
func (b *bench) widen(ctx context.Context) error {
	for _, h := range b.hosts {
		for _, dir := range []string{releasesFolder, scpFolder} {
			if said, err := h.Command(ctx, "sh", "-c", "mkdir -p -m 700 "+dir+" && mount -t tmpfs -o mode=0700,size=400m tmpfs "+dir).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", h.Name(), err, said)
			}
		}
	}
	return nil
}

// releaseFile makes a release whose program is noise: nobody starts it.
func releaseFile(key auth.Signer, size int, seed uint64) ([]byte, error) {
	build, packed, err := release.Pack(runtime.GOARCH, noise(size, seed))
	if err != nil {
		return nil, err
	}
	m, err := release.NewManifest(fmt.Sprintf("99.0.%d", seed), fleet.LevelNewest, time.Unix(1_795_000_000, 0), []release.Build{build})
	if err != nil {
		return nil, err
	}
	signed, err := release.Sign(m, key)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	err = release.WriteFile(&file, signed, m, map[string][]byte{build.Arch: packed})
	return file.Bytes(), err
}
