package golden

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet/wire"
)

// File is where a package keeps its formats.
const File = "testdata/formats.golden"

// addVariable in the environment lets Check write lines that are not there yet. None is ever changed or removed.
const addVariable = "MUSTER_GOLDEN_ADD"

// maxLine is how many bytes of a format a file shows; of longer ones it keeps the sum.
const maxLine = 400

// Check holds formats to what testdata/formats.golden has of them: bytes as they are, and of any other value the encoding of
// its type with every field filled.
func Check(t *testing.T, formats map[string]any) {
	t.Helper()
	kept, err := read(File)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, v := range formats {
		got[name] = text(v)
	}
	if os.Getenv(addVariable) != "" {
		if err := add(kept, got); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, line := range compare(kept, got) {
		t.Error(line)
	}
}

// Types names values by their types, for Check.
func Types(values ...any) map[string]any {
	out := map[string]any{}
	for _, v := range values {
		out[reflect.TypeOf(v).Name()] = v
	}
	return out
}

// compare says what is wrong.
func compare(kept, got map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch was, ok := kept[name]; {
		case !ok:
			out = append(out, fmt.Sprintf("format %s is new: keep its bytes with %s=1 go test, and see that nobody of an older version is sent it unasked", name, addVariable))
		case was != got[name]:
			out = append(out, fmt.Sprintf("format %s changed: hosts of the version before refuse it.\n  kept %s\n  now  %s\nLeave it as it was, and give what is new a type, kind, purpose or act of its own (node/fleet/level.go)",
				name, was, got[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if _, ok := got[name]; !ok {
			out = append(out, fmt.Sprintf("format %s is kept and no longer checked: hosts of the version before still speak it", name))
		}
	}
	return out
}

// text writes a format as a line of the file has it.
func text(v any) string {
	raw, ok := v.([]byte)
	if !ok {
		raw = wire.Marshal(Filled(v))
	}
	if len(raw) <= maxLine {
		return hex.EncodeToString(raw)
	}
	return fmt.Sprintf("sha256:%x of %d bytes", sha256.Sum256(raw), len(raw))
}

func read(path string) (map[string]string, error) {
	out := map[string]string{}
	file, err := os.Open(path)
	if err != nil {
		return out, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, rest, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			out[name] = rest
		}
	}
	return out, lines.Err()
}

// add writes the file with what it lacks.
func add(kept, got map[string]string) error {
	for name, line := range got {
		kept[name] = cmp.Or(kept[name], line)
	}
	var out strings.Builder
	out.WriteString("# The bytes of formats that hosts of other versions read. Lines are added, never changed: see testnet/golden.\n")
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		fmt.Fprintf(&out, "%s %s\n", name, kept[name])
	}
	if err := os.MkdirAll(filepath.Dir(File), 0o755); err != nil {
		return err
	}
	return os.WriteFile(File, []byte(out.String()), 0o644)
}
