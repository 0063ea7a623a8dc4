package wire

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

type inner struct {
	ID   fleet.ID
	U    fleet.UUID
	Tags map[string]string
}

type sample struct {
	N    uint64
	S    string
	B    []byte
	List []inner
}

func example() sample {
	return sample{N: 1 << 40, S: "web", B: []byte{1, 2}, List: []inner{{ID: fleet.Sum([]byte("x")), U: fleet.UUID{7}, Tags: map[string]string{"b": "2", "a": "1"}}}}
}

func TestRoundTrip(t *testing.T) {
	data := Marshal(example())
	var got sample
	if err := Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Marshal(got), data) || got.List[0].ID != example().List[0].ID {
		t.Fatalf("round trip changed the value: %+v", got)
	}
}

func TestRefusals(t *testing.T) {
	good := Marshal(example())
	more := append([]byte{}, good...)
	more[0]++ // one field more than the type has
	more = append(more, 0xc0)
	for name, data := range map[string][]byte{
		"empty":           {},
		"cut":             good[:len(good)-1],
		"trailing":        append(append([]byte{}, good...), 0),
		"unknown field":   more,
		"missing field":   Marshal(struct{ N uint64 }{1}),
		"34 GiB of slice": {0x94, 1, 0xa0, 0xc4, 0, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"long spelling":   {0x94, 0xcd, 0, 1, 0xa0, 0xc4, 0, 0x90},
		"deep":            bytes.Repeat([]byte{0x91}, 1<<16),
		"extension":       {0xc7, 0, 1},
		"nil struct":      {0x94, 1, 0xa0, 0xc4, 0, 0x91, 0xc0},
		"empty struct":    {0x94, 1, 0xa0, 0xc4, 0, 0x91, 0x90},
		"struct as map":   {0x94, 1, 0xa0, 0xc4, 0, 0x91, 0x80},
		"short ID":        {0x94, 1, 0xa0, 0xc4, 0, 0x91, 0x93, 0xc4, 1, 0, 0xc4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80},
		"text for number": {0x94, 0xa0, 0xa0, 0xc4, 0, 0x90},
		"number for text": {0x94, 1, 1, 0xc4, 0, 0x90},
		"repeated key":    {0x94, 1, 0xa0, 0xc4, 0, 0x91, 0x82, 0xa0, 0xa0, 0xa0, 0xa0},
	} {
		var got sample
		if err := Unmarshal(data, &got); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
