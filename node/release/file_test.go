package release

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestFile(t *testing.T) {
	m := makeRelease(t, "1.2.0", 3*ChunkSize+17)
	file := m.file(t, m.sign(t, "ann"))
	got, err := ReadFile(iotest.OneByteReader(bytes.NewReader(file)), trust(1, "ann"), true)
	if err != nil || got.Version != "1.2.0" || got.Level != fleet.LevelNewest || got.Date != date.UnixMilli() || strings.Join(got.Arches, " ") != "amd64 arm64" {
		t.Fatalf("%+v, %v", got, err)
	}
	if !bytes.Equal(file, makeRelease(t, "1.2.0", 3*ChunkSize+17).file(t, m.sign(t, "ann"))) {
		t.Error("the same release makes two files")
	}
	begin := len(AppendHeader(nil, m.sign(t, "ann")))
	change := func(at int) []byte {
		out := bytes.Clone(file)
		out[at] ^= 1
		return out
	}
	claim := bytes.Clone(file)
	binary.BigEndian.PutUint32(claim[len(title):], 0xffffffff)
	for name, test := range map[string]struct {
		file []byte
		says string
	}{
		"empty":               {nil, "it ends too soon"},
		"another thing":       {[]byte("!<arch>\ndebian-binary   1342943816  0     0     100644  4         `\n"), "no release file of muster"},
		"a title":             {file[:len(title)+2], "it ends too soon"},
		"a length":            {claim, "its manifest and signatures have"},
		"cut in the manifest": {file[:begin-9], "it ends too soon"},
		"cut in a chunk":      {file[:begin+ChunkSize+5], "it ends too soon"},
		"cut at a chunk":      {file[:begin+ChunkSize], "it ends too soon"},
		"a byte more":         {append(bytes.Clone(file), 0), "there is more behind its end"},
		"a bit of a chunk":    {change(begin + 2*ChunkSize + 3), "chunk 2 of amd64 is not as its maker signed it"},
		"a bit of the last":   {change(len(file) - 1), "chunk 0 of arm64"},
		"a bit of a manifest": {change(begin - 100), "damaged"},
	} {
		_, err := ReadFile(bytes.NewReader(test.file), trust(1, "ann"), true)
		if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = ReadFile(iotest.TimeoutReader(bytes.NewReader(file)), trust(1, "ann"), true)
	if !errors.Is(err, iotest.ErrTimeout) {
		t.Error("a reader's own error is not passed on:", err)
	}
}

// TestNothingUnsignedIsRead: what stands behind a manifest that the fleet does not take is not looked at.
func TestNothingUnsignedIsRead(t *testing.T) {
	m := makeRelease(t, "1.2.0", ChunkSize)
	rest := readCounter{bytes.NewReader(m.file(t, m.sign(t, "eve"))), 0}
	_, err := ReadFile(&rest, trust(1, "ann"), true)
	if want := len(AppendHeader(nil, m.sign(t, "eve"))); err == nil || rest.n != want {
		t.Errorf("%d bytes were read, not the %d of the header: %v", rest.n, want, err)
	}
}

type readCounter struct {
	io.Reader
	n int
}

func (r *readCounter) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += n
	return n, err
}

func TestCosign(t *testing.T) {
	m := makeRelease(t, "1.2.0", 2*ChunkSize)
	r := bytes.NewReader(m.file(t, m.sign(t, "ann")))
	signed, manifest, err := Cosign(r, key("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Verify(trust(2, "ann", "bob"), true); err != nil {
		t.Error(err)
	}
	if err := ReadBuilds(r, manifest, func(Build, int, []byte) error { return nil }); err != nil {
		t.Error("the rest is not left to be read:", err)
	}
}
