package testnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(runner.Supervise(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func uuid() (u fleet.UUID) { rand.Read(u[:]); return }

func TestSmoke(t *testing.T) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if os.Getenv("DEBUG") == "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	_, opKey, _ := ed25519.GenerateKey(nil)
	_, root, _ := ed25519.GenerateKey(nil)
	recovery, _, _ := ed25519.GenerateKey(nil)
	op := auth.NewSigner(opKey)
	base := t.TempDir()
	port := 17980
	id, err := host.Found(host.NewHost{Dir: base + "/n1", Name: "n1", Bind: fmt.Sprintf("127.0.0.1:%d", port)}, host.Founder{
		Fleet: "demo", Operator: "me", Key: opKey, Root: root, Recovery: recovery}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := func(n int) *host.Host {
		h, err := host.Start(host.Options{Dir: fmt.Sprintf("%s/n%d", base, n), Version: "test", Supervise: []string{"/proc/self/exe", "supervise"}, Log: log.With("node", n)})
		if err != nil {
			t.Fatal(n, err)
		}
		go h.Run(ctx)
		return h
	}
	t0 := time.Now()
	h1 := start(1)
	for h1.Agent.Status(ctx).Act == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	t.Log("founded", time.Since(t0))
	st := h1.Agent.Status(ctx)
	var seed [32]byte
	rand.Read(seed[:])
	join := auth.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
	hdr := auth.Header{ID: uuid(), Issued: time.Now().UnixMilli(), Expires: time.Now().Add(time.Hour).UnixMilli(), Charter: st.CharterHead, Act: st.Act, Mode: auth.ByQuorum}
	tok := auth.Token{Header: hdr, Join: join.Public(), Uses: 10, Server: true, Tags: map[string]string{"role": "web"}}
	if _, err := h1.Agent.Propose(ctx, consensus.PutToken{Statement: op.Sign(auth.ForToken, id, tok)}); err != nil {
		t.Fatal(err)
	}
	js := auth.JoinString{Seed: seed[:], Token: hdr.ID, Fleet: id, Head: st.CharterHead, Addrs: []string{fmt.Sprintf("127.0.0.1:%d", port)}}
	hosts := []*host.Host{h1}
	for n := 2; n <= 5; n++ {
		t1 := time.Now()
		_, err := host.Join(ctx, host.NewHost{Dir: fmt.Sprintf("%s/n%d", base, n), Name: fmt.Sprintf("n%d", n), Bind: fmt.Sprintf("127.0.0.1:%d", port+n)}, js, host.Clock, log)
		if err != nil {
			t.Fatal(n, err)
		}
		hosts = append(hosts, start(n))
		t.Log("joined", n, time.Since(t1))
	}
	for len(hosts[4].Agent.Status(ctx).Quorum.Voters) < 3 || hosts[4].Agent.Status(ctx).Online < 5 {
		time.Sleep(50 * time.Millisecond)
		if time.Since(t0) > 40*time.Second {
			t.Fatalf("%+v", hosts[4].Agent.Status(ctx))
		}
	}
	t.Log("3 voters, 5 online", time.Since(t0))
	for i := range 5 {
		run(t, ctx, hosts[i%5], op, id)
	}
}

func run(t *testing.T, ctx context.Context, h *host.Host, op auth.Signer, id fleet.ID) {
	st := h.Agent.Status(ctx)
	var ids []fleet.ID
	for _, m := range h.Agent.Nodes(ctx) {
		ids = append(ids, m.ID)
	}
	ids = exec.SortIDs(ids)
	now := time.Now()
	cmd := exec.Command{Header: auth.Header{ID: uuid(), Issued: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Charter: st.CharterHead, Act: st.Act, Mode: auth.ByQuorum},
		Target: "all", Count: uint32(len(ids)), Set: exec.SetDigest(ids), Run: exec.Run{Argv: []string{"echo hi"}, Timeout: 60000}}
	if _, err := h.Agent.Propose(ctx, consensus.PutCommand{Statement: op.Sign(auth.ForCommand, id, cmd), Nodes: ids}); err != nil {
		t.Fatal(err)
	}
	t.Log("committed", time.Since(now))
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	read := op.Sign(auth.ForRequest, id, node.Read{Header: auth.Header{ID: uuid(), Issued: now.UnixMilli(), Expires: now.Add(time.Minute).UnixMilli(), Charter: st.CharterHead, Act: st.Act, Mode: auth.ByQuorum}, What: node.ReadCommand, Arg: cmd.Header.ID})
	doneN := map[fleet.ID]bool{}
	err := h.Agent.Watch(ctx, read, func(u node.Update) error {
		if r := u.Report; r != nil && r.Status.Final() {
			doneN[r.Node] = true
			t.Log(time.Since(now), r.Node, r.Status, r.Detail, string(r.Stdout.Head))
		}
		if len(doneN) == len(ids) {
			return context.Canceled
		}
		return nil
	})
	t.Log(err, time.Since(now))
	if len(doneN) != len(ids) {
		t.Fatal("missing")
	}
}
