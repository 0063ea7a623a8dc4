package report

import (
	"encoding/binary"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// TestMemory: a value of the store costs what it weighs, also behind its sum.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	m := rep(command(1), 1, 1, exec.Success)
	value := sealEntry([]byte("s"), []byte("k"), 7, m.signed)
	summed := func(yield func(string, []byte) bool) {
		for name, in := range hostile.Inputs(maxEntry-entryHead, value[entryHead:]) {
			whole := append(make([]byte, entryHead), in...)
			binary.BigEndian.PutUint32(whole, entrySum([]byte("s"), []byte("k"), whole))
			if !yield(name, whole) {
				return
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 48}, func(in []byte) {
		if e, err := openEntry([]byte("s"), []byte("k"), in); err == nil {
			issued(e.Body)
		}
		issued(in)
	}, hostile.Join(summed, hostile.Inputs(1<<16, m.signed.Body), hostile.Corpus(t, "FuzzOpenEntry")))
}
