package testnet

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// townRelease is a release of noise that the town trusts.
func (w *town) townRelease(chunks int) (digest fleet.ID, binary, file []byte) {
	w.Helper()
	maker := newSigner()
	h := w.hosts[0]
	w.until("the town takes releases", time.Minute, func() bool { // its level has to rise first
		change := auth.SettingChange{Header: h.header(0), Name: auth.SettingReleaseKeys, Value: auth.FormatReleaseKey(maker.Public())}
		return h.propose(consensus.PutAct{Kind: auth.ActSetting, Data: wire.Marshal(w.tester.Sign(auth.ForSetting, w.fleet, change))}) == nil
	})
	w.until("everybody knows", time.Minute, func() bool {
		for _, h := range w.running() {
			if _, trusted := h.host.Agent.Record().Settings.ReleaseKeys(); !trusted {
				return false
			}
		}
		return true
	})
	binary = make([]byte, chunks*release.ChunkSize-9000)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("town"))).Read(binary)
	build, packed, err := release.Pack(runtime.GOARCH, binary)
	w.must(err)
	m, err := release.NewManifest("1.2.0", fleet.LevelNewest, time.Now(), []release.Build{build})
	w.must(err)
	signed, err := release.Sign(m, maker)
	w.must(err)
	var b bytes.Buffer
	w.must(release.WriteFile(&b, signed, m, map[string][]byte{build.Arch: packed}))
	return signed.Digest(), binary, b.Bytes()
}

// TestReleaseInTown: a release spreads over the real transport to hosts that can be dialled and to those that cannot, while packets
// are lost; one host is killed on the way and goes on where it was, and at the end the source dies.
func TestReleaseInTown(t *testing.T) {
	inHiddenTown(t, 5, 1, func(w *town, _ *firewall, _ []*townHost) {
		digest, binary, file := w.townRelease(8)
		source, killed, late := w.hosts[0], w.hosts[3], w.hosts[4]
		if _, err := source.host.Agent.PutRelease(w.Context(), bytes.NewReader(file), release.Bringer{}); err != nil {
			w.Fatal(err)
		}
		w.net.Change(func(o *fabric.Options) { o.Loss = 0.01 })
		fetch := func(h *townHost, sources ...fleet.ID) (release.Fetched, error) {
			return h.host.Agent.FetchRelease(w.Context(), digest, sources, func(release.Progress) error { return nil })
		}
		whole := func(h *townHost, got release.Fetched, err error) {
			w.Helper()
			data, _ := os.ReadFile(got.Path)
			if err != nil || !bytes.Equal(data, binary) {
				w.Errorf("%s: %+v, %v", h.name, got, err)
			}
		}
		var work sync.WaitGroup
		for _, h := range w.others(source, killed, late) {
			work.Go(func() {
				got, err := fetch(h, source.id)
				whole(h, got, err)
			})
		}
		work.Go(func() { _, _ = fetch(killed, source.id) })
		time.Sleep(150 * time.Millisecond)
		killed.kill()
		work.Wait()
		if given := source.host.Agent.Releases(w.Context())[0].Builds[0]; given.Given > (release.Copies+1)*given.Chunks {
			w.Errorf("the source gave %d chunks of %d", given.Given, given.Chunks)
		}
		killed.start()
		w.settled()
		got, err := fetch(killed, source.id)
		whole(killed, got, err)
		w.Logf("the killed one had %d of %d chunks", got.Resumed, got.Chunks)
		source.kill()
		got, err = fetch(late, source.id, killed.id) // nobody but those who fetched it
		whole(late, got, err)
		w.net.Change(func(o *fabric.Options) { o.Loss = 0 })
		source.start()
		w.settled()
	})
}
