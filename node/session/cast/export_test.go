package cast

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

func exported(t *testing.T, r *Reader, f Format) string {
	t.Helper()
	var out bytes.Buffer
	if err := Export(&out, r, f); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestExportText(t *testing.T) {
	path := filepath.Join("testdata", "bash.txt")
	got := exported(t, bashCast(t), FormatText)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s", got)
	}
}

func TestExport(t *testing.T) {
	public, private := auditor(t)
	d, plain := newDisk(), newDisk()
	for disk, auditors := range map[*disk][][]byte{d: {public}, plain: nil} {
		h := header()
		h.Terminal = ""
		w, clock := begin(t, disk, h, Options{Auditors: auditors})
		clock.now = began.Add(1234 * time.Millisecond)
		w.Output([]byte("out \x1b[31mé\xff"))
		w.ErrorOutput([]byte("err\n"))
		w.Mark(MarkCommand, "$ a\tb\x1b")
		w.Mark(MarkConnection, "db1:5432, 3 bytes there, 9 back")
		end(t, w)
	}
	for form, want := range map[Format]string{
		FormatCast: plain.data.String(),
		FormatText: "out \\x1b[31mé\\xfferr\n",
		FormatRaw:  "out \x1b[31mé\xfferr\n",
		FormatCommands: "2026-11-23T12:00:01.234Z\tcommand\t$ a b\\x1b\n" +
			"2026-11-23T12:00:01.234Z\tconnection\tdb1:5432, 3 bytes there, 9 back\n2026-11-23T12:00:01.234Z\tend\texit 0\n",
	} {
		r, err := Open(bytes.NewReader(d.data.Bytes()), holding(public, private))
		if err != nil {
			t.Fatal(err)
		}
		if got := exported(t, r, form); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", form, got, want)
		}
	}
	if _, err := ParseFormat("mp4"); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("mp4 is a format: %v", err)
	}
}

// What is cut off says so, and what is damaged is written up to there.
func TestExportOfAPart(t *testing.T) {
	data := recording(t, "", time.Second, 2*time.Second)
	for form, want := range map[Format]string{FormatText: "ab!\n[" + cutNote + "]\n", FormatCommands: "-\tmuster\t" + cutNote + "\n", FormatRaw: "ab!"} {
		r, err := Open(bytes.NewReader(data[:len(data)-3]), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := exported(t, r, form); got != want {
			t.Errorf("%s: %q", form, got)
		}
	}
	damaged := strings.Replace(string(data), `, "o", "b"`, `, "o", b`, 1)
	r, err := Open(strings.NewReader(damaged), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Export(&out, r, FormatRaw); fleet.KindOf(err) != fleet.Invalid || out.String() != "a" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
