package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Bounds of the listener.
const (
	maxConns   = 32      // open at a time; more wait to be accepted
	maxHeaders = 8 << 10 // bytes
	maxWait    = 5 * time.Second
	// maxIdle is for how long who scrapes may keep a connection open without asking: there are few places, and a new connection is
	// cheap.
	maxIdle = 10 * time.Second
	// fresh is how long an answer is good for others who ask: a crowd of scrapers costs no more than one.
	fresh = time.Second
)

// contentType of the text format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Serve answers who scrapes at l until ctx ends, and closes l. take is called by one goroutine at a time.
func Serve(ctx context.Context, l net.Listener, take func() Snapshot, log *slog.Logger) error {
	server := &http.Server{
		Handler: newDesk(take, time.Now), ReadHeaderTimeout: maxWait, ReadTimeout: maxWait, WriteTimeout: 2 * maxWait, IdleTimeout: maxIdle,
		MaxHeaderBytes: maxHeaders, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(&door{Listener: l, slots: make(chan struct{}, maxConns), closed: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// desk answers requests.
type desk struct {
	take func() Snapshot
	now  func() time.Time

	mu     sync.Mutex
	text   []byte
	at     time.Time
	served uint64
}

func newDesk(take func() Snapshot, now func() time.Time) *desk { return &desk{take: take, now: now} }

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if overLoopback(r) && !isAddress(r.Host) {
		http.Error(w, "ask this host itself for metrics by an IP address, or as localhost", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path != "/metrics" {
		http.Error(w, "metrics are at /metrics", http.StatusNotFound)
		return
	}
	text := d.answer()
	w.Header().Set("Content-Type", contentType)
	if r.Method == http.MethodGet {
		_, _ = w.Write(text)
	}
}

// overLoopback reports whether a request came from this host itself. Elsewhere whoever reaches the port may read, by whatever name.
func overLoopback(r *http.Request) bool {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return at == nil || at.IP.IsLoopback()
}

// isAddress reports whether a request names this host by an IP address or as localhost. A web page may not read what a browser
// fetches from elsewhere, unless its own name is made to resolve to this host; then that name stands here.
func isAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// answer returns the text, made anew if the last is not fresh. What it returns is never written to again.
func (d *desk) answer() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.text == nil || d.now().Sub(d.at) >= fresh {
		s := d.take()
		s.Scrapes = d.served
		d.text, d.at = Text(nil, s), d.now()
	}
	d.served++
	return d.text
}

// door lets so many in at a time.
type door struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a place first, so that who comes meanwhile waits in the kernel.
func (d *door) Accept() (net.Conn, error) {
	select {
	case d.slots <- struct{}{}:
	case <-d.closed:
		return nil, net.ErrClosed
	}
	conn, err := d.Listener.Accept()
	if err != nil {
		<-d.slots
		return nil, err
	}
	return &guest{Conn: conn, leave: sync.OnceFunc(func() { <-d.slots })}, nil
}

// Close ends a waiting Accept as well.
func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

type guest struct {
	net.Conn
	leave func()
}

// Close gives the place back.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

var _ io.Closer = (*guest)(nil)
