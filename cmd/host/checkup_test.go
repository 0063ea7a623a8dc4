package host

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamine: a folder's disk, what others may read of it, and what of the host can be told.
func TestExamine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if h := Examine(dir); h.DirError == "" {
		t.Error("there is no such folder")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h := Examine(dir)
	if h.DirError != "" || h.Total < h.Free || h.Free <= 0 || h.FsyncError != "" || h.FsyncWorst < h.Fsync || h.FsyncWorst == 0 || len(h.Loose) != 0 {
		t.Errorf("%+v", h)
	}
	if h.RmemMax <= 0 || !strings.HasPrefix(h.Kernel, "Linux ") || h.MemTotal <= 0 {
		t.Errorf("%+v", h)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	open := filepath.Join(dir, "identity")
	if err := os.WriteFile(open, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if h := Examine(dir); len(h.Loose) != 0 {
		t.Error("what is in a closed folder is closed", h.Loose)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * looseShown {
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if h := Examine(dir); len(h.Loose) != looseShown || h.Loose[0] != dir || h.LooseMore == 0 {
		t.Error(h.Loose, h.LooseMore)
	}
}

// TestOwnSockets: UDP and listening TCP are told, connections are not.
func TestOwnSockets(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	conn, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	seen := map[string]string{}
	for _, s := range ownSockets() {
		seen[s.Local] = s.Proto
		if s.Local == udp.LocalAddr().String() && (s.RecvBytes <= 0 || s.Drops != 0) {
			t.Errorf("%+v", s)
		}
	}
	if seen[udp.LocalAddr().String()] != "udp" || seen[tcp.Addr().String()] != "tcp" || seen[conn.LocalAddr().String()] != "" {
		t.Error(seen)
	}
}
