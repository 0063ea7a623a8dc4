package metrics

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyMetricsAreServed(t *testing.T) {
	d := newDesk(func() Snapshot { return full() }, time.Now)
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/metrics", 200, "muster_build_info"},
		{"HEAD", "/metrics", 200, ""},
		{"GET", "/", 404, "/metrics"},
		{"GET", "/debug/pprof/", 404, "/metrics"},
		{"POST", "/metrics", 405, "only GET"},
		{"DELETE", "/metrics", 405, "only GET"},
		{"CONNECT", "/metrics", 405, "only GET"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = "127.0.0.1:7981"
		d.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d %q", c.method, c.path, w.Code, w.Body)
		}
		if c.method == "HEAD" && w.Body.Len() > 0 {
			t.Error("HEAD has a body")
		}
		if c.status == 200 && w.Header().Get("Content-Type") != contentType {
			t.Errorf("%s %s is %s", c.method, c.path, w.Header().Get("Content-Type"))
		}
	}
}

// A browser that was led here by a name is told nothing: metrics are asked for by address.
func TestMetricsAreAskedForByAddress(t *testing.T) {
	d := newDesk(full, time.Now)
	for host, status := range map[string]int{
		"127.0.0.1:7981": 200, "10.0.0.7": 200, "[::1]:7981": 200, "[fe80::1%eth0]:7981": 200, "[2001:db8::1]": 200, "localhost:7981": 200, "LOCALHOST": 200,
		"evil.example:7981": 421, "evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:7981": 421, "": 421, "a:b:c": 421,
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		d.ServeHTTP(w, r)
		if w.Code != status || strings.Contains(w.Body.String(), "muster_") != (status == 200) {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
	for at, status := range map[string]int{"127.0.0.1": 421, "10.0.0.7": 200, "2001:db8::1": 200} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
		r.Host = "web1.example:7981"
		d.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(at)})))
		if w.Code != status {
			t.Errorf("by name at %s: %d", at, w.Code)
		}
	}
}

// However many scrape, measurements are taken once a second.
func TestACrowdOfScrapersCostsNoMoreThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		d := newDesk(func() Snapshot { taken.Add(1); return Snapshot{} }, time.Now)
		for range 100 {
			d.answer()
		}
		if n := taken.Load(); n != 1 {
			t.Errorf("100 answers within a moment took %d measurements", n)
		}
		time.Sleep(fresh)
		if text := string(d.answer()); !strings.Contains(text, "muster_metrics_scrapes_total 100\n") || taken.Load() != 2 {
			t.Errorf("after %s: %d measurements\n%s", fresh, taken.Load(), text)
		}
	})
}

// Those that connect and say nothing, or much, do not keep a scraper out for long, and Serve ends with its context, whoever
// is connected.
func TestTheListenerIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, full, slog.New(slog.DiscardHandler)) }()
	at := l.Addr().String()
	resp, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(text), "\nmuster_fleet_members{status=\"online\"} 48\n") {
		t.Fatal(err, string(text))
	}

	fat, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+at+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	fat.Header.Set("X-Fat", strings.Repeat("x", 2*maxHeaders+8<<10))
	if resp, err := http.DefaultClient.Do(fat); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of %d bytes is answered with %s", 2*maxHeaders, resp.Status)
		}
	}

	for range 2 * maxConns { // half of them wait in the kernel
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", at); err == nil {
		conn.Close()
		t.Error("it listens after its end")
	}
}

// No more are let in at a time than there are places; who waits is let in when one leaves.
func TestTheDoorHasSoManyPlaces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: l, slots: make(chan struct{}, 2), closed: make(chan struct{})}
	in := make(chan net.Conn)
	go func() {
		for {
			conn, err := d.Accept()
			if err != nil {
				close(in)
				return
			}
			in <- conn
		}
	}()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, second := <-in, <-in
	if len(d.slots) != 2 {
		t.Errorf("%d places are taken by two", len(d.slots))
	}
	_ = first.Close()
	_ = first.Close() // which gives one place back, not two
	third := <-in
	if len(d.slots) != 2 {
		t.Errorf("%d places are taken after one left and one came", len(d.slots))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, more := <-in; more {
		t.Error("somebody was let in after the end")
	}
	_, _ = second.Close(), third.Close()
}
