package action

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/s3/s3test"
	"github.com/muster-fleet/muster/node/fleet"
)

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func fileOf(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func fetch(in document.SourceInfo, to string) document.Download {
	in.AllowInsecureDownload = true
	return document.Download{SourceType: "HTTP", Source: in, Destination: to}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestHTTP(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked with %v", r.Header)
		}
		fmt.Fprint(w, "content of "+r.URL.Path)
	})
	b := newBed(t)
	for _, d := range []document.Download{
		fetch(document.SourceInfo{URL: url + "/pkg/a.txt?token=hunter2", SHA256: strings.ToUpper(digest("content of /pkg/a.txt"))}, ""),
		fetch(document.SourceInfo{URL: url + "/pkg/a.txt", AuthMethod: "None"}, "sub/b.txt"),
		fetch(document.SourceInfo{URL: url + "/pkg/c.txt"}, b.downloads+"/abs/"),
	} {
		if code := b.do(t, "download", d); code != 0 {
			t.Fatal(b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{"a.txt": "content of /pkg/a.txt", "sub/": "", "sub/b.txt": "content of /pkg/a.txt", "abs/": "", "abs/c.txt": "content of /pkg/c.txt"})
	if all := b.out.String() + b.err.String(); strings.Contains(all, "hunter2") {
		t.Errorf("printed a secret: %s", all)
	}
}

func TestHTTPRefuses(t *testing.T) {
	loops := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/part":
			w.WriteHeader(http.StatusNoContent)
		case "/loop":
			loops++
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/ftp":
			http.Redirect(w, r, "ftp://h/x", http.StatusFound)
		default:
			fmt.Fprint(w, "new")
		}
	})
	for _, c := range []struct {
		in   document.SourceInfo
		to   string
		want string
	}{
		{document.SourceInfo{URL: url + "/a", SHA256: digest("other")}, "a", digest("new") + ", not " + digest("other")},
		{document.SourceInfo{URL: url + "/a", SHA256: "12"}, "a", "64 hexadecimal"},
		{document.SourceInfo{URL: url + "/none?hunter2"}, "a", url + "/none: 404"},
		{document.SourceInfo{URL: url + "/part"}, "a", "204"},
		{document.SourceInfo{URL: url + "/loop?hunter2"}, "a", "more than 10 redirects"},
		{document.SourceInfo{URL: url + "/ftp"}, "a", "redirected to ftp://h"},
		{document.SourceInfo{URL: url + "/"}, "", "names no file"},
		{document.SourceInfo{URL: "ftp://h/hunter2"}, "a", "begins with ftp"},
		{document.SourceInfo{URL: "hunter2"}, "a", "the url is none"},
		{document.SourceInfo{URL: "http://h:x/hunter2"}, "a", "the url is none"},
		{document.SourceInfo{URL: url + "/a", AuthMethod: "Digest"}, "a", "not built yet"},
		{document.SourceInfo{URL: url + "/a", AuthMethod: "Bearer"}, "a", `no authMethod "Bearer"`},
		{document.SourceInfo{URL: url + "/a", Username: "u", Password: "hunter2"}, "a", "no authMethod"},
	} {
		b := newBed(t)
		os.WriteFile(b.downloads+"/a", []byte("old"), 0o600)
		if code := b.do(t, "download", fetch(c.in, c.to)); code == 0 {
			t.Errorf("%s was downloaded", c.in.URL)
		}
		wantWords(t, b.err.String(), c.want)
		if strings.Contains(b.err.String(), "hunter2") {
			t.Errorf("printed a secret: %s", b.err)
		}
		wantFiles(t, b.downloads, map[string]string{"a": "old"})
	}
	if loops != 1+maxRedirects {
		t.Errorf("a loop was followed %d times", loops)
	}
}

func TestShortContentIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	if _, err := write(t.Context(), dir+"/a", strings.NewReader("short"), 9, ""); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "5 of 9") {
		t.Errorf("got %v", err)
	}
	wantFiles(t, dir, nil)
}

func TestPlainHTTPNeedsLeave(t *testing.T) {
	asked := false
	plain := serve(t, func(http.ResponseWriter, *http.Request) { asked = true })
	b := newBed(t)
	d := fetch(document.SourceInfo{URL: plain + "/a"}, "a")
	d.Source.AllowInsecureDownload = false
	if code := b.do(t, "download", d); code == 0 || asked {
		t.Error("plain http was asked without leave")
	}
	wantWords(t, b.err.String(), "is not encrypted", "allowInsecureDownload")
	// An encrypted host may not send to a plain one either. Its certificate is nobody's, so that its redirect is not even heard.
	a := asking{url: mustURL(t, "https://h/a")}
	req, _ := http.NewRequest("GET", plain, nil)
	if a.redirect(req, nil) == nil {
		t.Error("redirected from https to http")
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	b := newBed(t)
	if code := b.do(t, "download", fetch(document.SourceInfo{URL: s.URL + "/a"}, "a")); code == 0 {
		t.Error("an unknown certificate was taken")
	}
	wantWords(t, b.err.String(), "certificate")
	if strings.Contains(b.err.String(), "trying again") {
		t.Error("a wrong certificate does not pass by waiting")
	}
}

func TestCredentialsStayWithTheirHost(t *testing.T) {
	var there, back http.Header
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { there = r.Header.Clone(); fmt.Fprint(w, "x") })
	var home string
	home = serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/back":
			back = r.Header.Clone()
			fmt.Fprint(w, "x")
		case user != "u" || password != "hunter2":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/same":
			http.Redirect(w, r, home+"/back", http.StatusFound)
		default:
			http.Redirect(w, r, other+"/x", http.StatusFound)
		}
	})
	b := newBed(t)
	for _, in := range []document.SourceInfo{
		{URL: home + "/away?query=hunter3", AuthMethod: "Basic", Username: "u", Password: "hunter2"},
		{URL: home + "/same?query=hunter3", AuthMethod: "Basic", Username: "u", Password: "hunter2"},
		{URL: strings.Replace(home, "://", "://u:hunter2@", 1) + "/away?query=hunter3"},
	} {
		there = nil
		if code := b.do(t, "download", fetch(in, "a")); code != 0 {
			t.Fatal(b.err)
		}
		if text := fmt.Sprint(there); strings.Contains(text, "Authorization") || strings.Contains(text, "hunter") {
			t.Errorf("the other host was told %v", there)
		}
	}
	if back.Get("Authorization") == "" || back.Get("Referer") != "" {
		t.Errorf("its own host was told %v", back)
	}
	wrong := document.SourceInfo{URL: home + "/away", AuthMethod: "Basic", Username: "u", Password: "hunter9"}
	if code := b.do(t, "download", fetch(wrong, "a")); code == 0 {
		t.Error("a wrong password opened")
	}
	wantWords(t, b.err.String(), "401 Unauthorized")
	if strings.Contains(b.err.String()+b.out.String(), "hunter") {
		t.Errorf("printed a secret: %s", b.err)
	}
}

func TestHTTPTriesAgain(t *testing.T) {
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Content-Length", "100")
			w.Write(make([]byte, 10)) // and the connection closes
		default:
			fmt.Fprint(w, "whole")
		}
	})
	b := newBed(t)
	if code := b.do(t, "download", fetch(document.SourceInfo{URL: url + "/a"}, "a")); code != 0 {
		t.Fatal(b.err)
	}
	wantFiles(t, b.downloads, map[string]string{"a": "whole"})
	wantWords(t, b.err.String(), "503 Service Unavailable; trying again in 7s", "broke off", "trying again in 2s")

	always := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); w.WriteHeader(http.StatusBadGateway) })
	asked.Store(0)
	if code := b.do(t, "download", fetch(document.SourceInfo{URL: always + "/a"}, "b")); code != 1 || asked.Load() != fetchAttempts {
		t.Errorf("exit code %d after %d attempts", code, asked.Load())
	}
}

func TestHTTPBodyTooBig(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(maxDownload)+1))
		w.WriteHeader(http.StatusOK)
	})
	b := newBed(t)
	if code := b.do(t, "download", fetch(document.SourceInfo{URL: url + "/a"}, "a")); code == 0 {
		t.Error("fetched more than is allowed")
	}
	wantWords(t, b.err.String(), "at most 17179869184 are fetched")
	var left int64 = 10
	r := &bounded{ctx: t.Context(), r: strings.NewReader(strings.Repeat("x", 11)), left: left}
	if _, err := new(bytes.Buffer).ReadFrom(r); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

// smallDisk mounts a disk of that size, in a file system in memory.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("needs to mount: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "256k")
	big := bytes.Repeat([]byte("x"), 1<<20)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/said" {
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
		} else {
			w.(http.Flusher).Flush()
		}
		w.Write(big)
	})
	for path, want := range map[string]string{"/said": "has room for", "/unsaid": "the disk is full at " + disk} {
		b := newBed(t)
		os.WriteFile(disk+"/a", []byte("old"), 0o600)
		if code := b.do(t, "download", fetch(document.SourceInfo{URL: url + path}, disk+"/a")); code != 1 {
			t.Errorf("exit code %d", code)
		}
		wantWords(t, b.err.String(), want, "make room there")
		if strings.Contains(b.err.String(), "trying again") {
			t.Error("a full disk was tried again")
		}
		wantFiles(t, disk, map[string]string{"a": "old"})
	}
}

func TestSIGTERMCleansUp(t *testing.T) {
	began := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 16<<20)) // more than sockets hold: some of it is in the file
		close(began)
		<-r.Context().Done()
	})
	downloads := t.TempDir()
	cmd, words := process(t, "download", fetch(document.SourceInfo{URL: url + "/a"}, "a"), DownloadsVariable+"="+downloads)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-began
	if len(files(t, downloads)) != 1 {
		t.Error("nothing to clean up")
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 143 || words.String() != "stopped\n" {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), words)
	}
	wantFiles(t, downloads, nil)
}

func TestSilentServersAreLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody is there
	b := newBed(t)
	if code := b.do(t, "download", fetch(document.SourceInfo{URL: "http://" + addr + "/a?hunter2"}, "a")); code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, b.err.String(), "no answer from http://"+addr+"/a: ", "refused")
	if strings.Contains(b.err.String(), "hunter2") {
		t.Errorf("printed a secret: %s", b.err)
	}
}

func s3Fetch(path, to string) document.Download {
	return document.Download{SourceType: "S3", Source: document.SourceInfo{Path: path}, Destination: to}
}

func TestS3(t *testing.T) {
	store := s3test.New(t)
	store.Put("cfg/web/a b+c.txt", []byte("object"))
	store.Put("cfg/web/sub/d.txt", []byte("deep"))
	store.Put("cfg/web/", nil)
	store.Put("cfg/webby", []byte("no"))
	b := newBed(t, store.Env()...)
	store.Cut(3) // the first body breaks off
	for _, d := range []document.Download{s3Fetch("s3://cfg/web/a b+c.txt", "one/"), s3Fetch("s3://cfg/web", "all"), s3Fetch("s3://cfg/web/sub/", "deep")} {
		if code := b.do(t, "download", d); code != 0 {
			t.Fatal(b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{"one/": "", "one/a b+c.txt": "object", "all/": "", "all/a b+c.txt": "object", "all/sub/": "", "all/sub/d.txt": "deep", "deep/": "", "deep/d.txt": "deep"})
	wantWords(t, b.err.String(), "broke off", "trying again")
	for _, d := range []document.Download{
		s3Fetch("s3://cfg/none", "x"),
		{SourceType: "S3", Source: document.SourceInfo{Path: "s3://cfg/web/sub/d.txt", SHA256: digest("other")}, Destination: "x"},
		{SourceType: "S3", Source: document.SourceInfo{Path: "s3://cfg/web/", SHA256: digest("other")}, Destination: "x"},
		{SourceType: "S3", Source: document.SourceInfo{Path: "s3://cfg/web/sub/d.txt", Endpoint: "http://127.0.0.1:1"}, Destination: "x"},
	} {
		if code := b.do(t, "download", d); code == 0 {
			t.Errorf("%+v was downloaded", d)
		}
	}
	wantWords(t, b.err.String(), "there is nothing at s3://cfg/none/", "nothing was written", "is for one object", "http://127.0.0.1:1 is not encrypted")
	if _, err := os.Stat(b.downloads + "/x"); err == nil {
		t.Error("something was written")
	}
	if left, _ := filepath.Glob(b.downloads + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestS3KeysThatLeadOut(t *testing.T) {
	store := s3test.New(t)
	store.Put("cfg/d/../../../evil", []byte("x"))
	b := newBed(t, store.Env()...)
	if code := b.do(t, "download", s3Fetch("s3://cfg/d/", "in")); code == 0 {
		t.Error("a key led out of the destination")
	}
	wantFiles(t, b.downloads, nil)
}

func TestS3WithWrongKeysAndWithNone(t *testing.T) {
	store := s3test.New(t)
	store.Put("cfg/a", []byte("x"))
	wrong := newBed(t, append(store.Env(), "AWS_SECRET_ACCESS_KEY=wrong")...)
	if code := wrong.do(t, "download", s3Fetch("s3://cfg/a", "a")); code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, wrong.err.String(), "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY or the shared")
	store.Public()
	none := newBed(t, "AWS_ENDPOINT_URL="+store.URL)
	if code := none.do(t, "download", s3Fetch("s3://cfg/a", "a")); code != 0 {
		t.Error(none.err)
	}
}
