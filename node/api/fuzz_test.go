package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// asked are bodies as the client sends them, by path.
func asked() map[string][]byte {
	f := authtest.Found("api")
	in := func(field string, raw []byte) []byte {
		return []byte(`{"` + field + `":"` + base64.StdEncoding.EncodeToString(raw) + `"}`)
	}
	read := wire.Marshal(f.Sign(auth.ForRequest, []string{"commands"}))
	return map[string][]byte{
		"/v1/entries": in("entry", consensus.Encode(consensus.PutToken{Statement: f.NewToken(1, nil).Statement}, 0)),
		"/v1/read":    in("statement", read), "/v1/watch": in("statement", read), "/v1/leave": []byte("{}"),
		"/v1/why/" + id("web01").Text(): in("statement", read), "/v1/report/" + id("web01").Text(): in("statement", read),
		"/v1/output/" + id("web01").Text(): append(bytes.TrimSuffix(in("statement", read), []byte("}")), `,"stream":"stdout"}`...),
		"/v1/direct":                       in("order", exec.Order{Statement: f.Sign(auth.ForCommand, []string{"x"}), Nodes: []fleet.ID{id("web01")}}.Encode()),
	}
}

// FuzzRequests: no body brings the desk down, gets an answer that is no JSON, or comes to the agent as anything but what
// it says, in the one way to say it.
func FuzzRequests(f *testing.F) {
	for path, body := range asked() {
		f.Add(path, body)
	}
	f.Add("/v1/entries", []byte(`{"entry":"AQGSAJHAkA=="}`))
	f.Add("/v1/read", []byte(`{"statement":"lQEBxA=="}`))
	f.Add("/v1/watch", []byte(`{}`))
	f.Add("/v1/leave", []byte(``))
	f.Add("/v1/read", []byte(`{"statement":"","statement":null}`))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if !strings.HasPrefix(path, "/v1/") || strings.ContainsAny(path, " ?#%") {
			return
		}
		r, err := http.NewRequest("POST", "http://muster"+path, bytes.NewReader(body))
		if err != nil {
			return
		}
		r.Host = "muster"
		b, w := &stub{pieces: []exec.OutputPiece{{Head: &exec.OutputHead{}}}}, httptest.NewRecorder()
		newDesk(b, Options{}).routes().ServeHTTP(w, r)
		var any any
		if w.Body.Len() > 0 && w.Code != http.StatusMovedPermanently && w.Code != http.StatusTemporaryRedirect && shape.Unmarshal(w.Body.Bytes(), &any) != nil {
			t.Errorf("%s %q: %d %q", path, body, w.Code, w.Body)
		}
		if b.left {
			t.Error("somebody whom the kernel does not name made the host leave")
		}
		if b.proposed != nil || b.signed.Format != 0 || len(b.order.Nodes) > 0 {
			raw := wire.Marshal(b.signed)
			if len(b.order.Nodes) > 0 {
				raw = b.order.Encode()
			}
			if b.proposed != nil {
				raw = consensus.Encode(b.proposed, 0)[:2] // the time in it is the caller's, and not passed on
			}
			if w.Code != http.StatusOK || !bytes.Contains(decoded(body), raw) {
				t.Errorf("%s %q came to the agent as %x", path, body, raw)
			}
		}
	})
}

// decoded returns the longest base64 in a body.
func decoded(body []byte) (out []byte) {
	for part := range bytes.SplitSeq(bytes.ReplaceAll(body, []byte(`\u`), []byte(`"`)), []byte(`"`)) {
		raw, err := base64.StdEncoding.DecodeString(string(part))
		if err == nil && len(raw) > len(out) {
			out = raw
		}
	}
	return out
}

// pairs is a listener of connections made in this process: each a unix socket, whose peer the kernel knows.
type pairs struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func newPairs() *pairs { return &pairs{conns: make(chan net.Conn), over: make(chan struct{})} }

func (p *pairs) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}
func (p *pairs) Close() error   { p.once.Do(func() { close(p.over) }); return nil }
func (p *pairs) Addr() net.Addr { return &net.UnixAddr{Name: "pairs", Net: "unix"} }

// dial makes a connection and returns the caller's end.
func (p *pairs) dial(tb testing.TB) *net.UnixConn {
	tb.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var conns [2]net.Conn
	for i, end := range ends {
		file := os.NewFile(uintptr(end), "pair")
		if conns[i], err = net.FileConn(file); err != nil {
			tb.Fatal(err)
		}
		_ = file.Close()
	}
	p.conns <- conns[0]
	return conns[1].(*net.UnixConn)
}

// say sends bytes as one connection's whole say, and returns all that comes back.
func (p *pairs) say(tb testing.TB, data []byte) []byte {
	tb.Helper()
	conn := p.dial(tb)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	answer, err := io.ReadAll(conn)
	if err != nil && os.IsTimeout(err) {
		tb.Fatalf("no end to the answer: %v", err)
	}
	return answer
}

// onSocket serves the API on connections of this process.
func onSocket(tb testing.TB, b Backend) *pairs {
	tb.Helper()
	p := newPairs()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, p, b, Options{Version: "1.2.3"}) }()
	tb.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return p
}

// request is a request as it travels.
func request(method, path string, headers string, body []byte) []byte {
	return append(fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: muster\r\nContent-Length: %d\r\n%s\r\n", method, path, len(body), headers), body...)
}

// FuzzSocket: whatever comes down the socket, byte by byte, is answered in HTTP or cut off, and asks for nothing that
// its caller may not.
func FuzzSocket(f *testing.F) {
	for path, body := range asked() {
		if path != "/v1/leave" {
			f.Add(request("POST", path, "", body))
		}
	}
	f.Add(request("GET", "/v1/status", "Connection: close\r\n", nil))
	f.Add(append(request("GET", "/v1/version", "", nil), request("GET", "/v1/nodes", "", nil)...))
	f.Add(request("GET", "/v1/operators", "Origin: http://evil\r\n", nil))
	f.Add([]byte("POST /v1/entries HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{"))
	f.Add([]byte("POST /v1/read HTTP/1.1\r\nHost: muster\r\nContent-Length: 99999999999\r\n\r\n{"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Add(append([]byte("GET / HTTP/1.1\r\n"), bytes.Repeat([]byte("a: b\r\n"), 3000)...))
	p := onSocket(f, &stub{})
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := p.say(t, data)
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
			t.Fatalf("%q is answered %q", data, answer)
		}
	})
}

// TestMemory: a request costs no more than its path allows, from the first byte down the socket to the agent.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	routes := newDesk(&stub{}, Options{}).routes()
	for path, most := range map[string]int{"/v1/entries": maxEntryBody, "/v1/read": maxStatementBody, "/v1/watch": maxStatementBody, "/v1/leave": 1 << 10, "/v1/direct": maxEntryBody, "/v1/why/" + id("web01").Text(): maxStatementBody} {
		sample := asked()[path]
		boxed := func(yield func(string, []byte) bool) {
			for name, in := range hostile.Some(5, hostile.Inputs(min(most/2, 1<<15), decoded(sample))) {
				for _, field := range []string{"entry", "statement"} {
					if !yield(name, []byte(`{"`+field+`":"`+base64.StdEncoding.EncodeToString(in)+`"}`)) {
						return
					}
				}
			}
		}
		hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
			r, err := http.NewRequest("POST", "http://muster"+path, bytes.NewReader(in))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "muster"
			routes.ServeHTTP(httptest.NewRecorder(), r)
		}, hostile.Join(hostile.JSON(most, "entry", "statement"), hostile.JSON(2*most, "entry", "statement"), boxed, hostile.Corpus(t, "FuzzRequests")))
	}
	p := onSocket(t, &stub{})
	raw := func(yield func(string, []byte) bool) {
		for name, in := range map[string][]byte{
			"endless line":        bytes.Repeat([]byte("G"), 4<<20),
			"endless header":      append([]byte("GET / HTTP/1.1\r\nHost: muster\r\nX: "), bytes.Repeat([]byte("x"), 4<<20)...),
			"endless headers":     append([]byte("GET / HTTP/1.1\r\nHost: muster\r\n"), bytes.Repeat([]byte("a: b\r\n"), 1<<19)...),
			"endless path":        append([]byte("GET /"), bytes.Repeat([]byte("a/"), 1<<20)...),
			"endless body":        append(request("POST", "/v1/read", "", nil)[:0], append([]byte("POST /v1/read HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n"), bytes.Repeat([]byte("["), 4<<20)...)...),
			"endless trailer":     append([]byte("POST /v1/read HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\n{}\r\n0\r\n"), bytes.Repeat([]byte("A: b\r\n"), 1<<19)...),
			"a body for nobody":   append(request("POST", "/v1/nowhere", "", nil)[:0], append([]byte("POST /v1/nowhere HTTP/1.1\r\nHost: muster\r\nContent-Length: 4194304\r\n\r\n"), make([]byte, 4<<20)...)...),
			"many, one after one": bytes.Repeat(request("GET", "/v1/nowhere", "", nil), 1000),
		} {
			if !yield(name, in) {
				return
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 2 << 20, PerByte: 64}, func(in []byte) { p.say(t, in) }, hostile.Join(raw, hostile.Corpus(t, "FuzzSocket")))
}
