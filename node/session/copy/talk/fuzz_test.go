package talk

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/testnet/hostile"
)

// FuzzDecode: whatever is accepted is what Encode writes.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		frame, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[0], frame[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		m, err := Decode(kind, payload)
		if err != nil || len(payload) > MaxPayload {
			return
		}
		frame, err := Encode(m)
		if err != nil || frame[0] != kind || !bytes.Equal(frame[HeaderSize:], payload) {
			t.Fatalf("%#v is written otherwise: %v", m, err)
		}
	})
}

// frames reads messages out of bytes, until one is none.
func frames(data []byte) []Message {
	var out []Message
	for len(data) >= HeaderSize {
		kind, size, err := Header([HeaderSize]byte(data))
		if err != nil || len(data) < HeaderSize+size {
			return out
		}
		m, err := Decode(kind, data[HeaderSize:HeaderSize+size])
		if err != nil {
			return out
		}
		out, data = append(out, m), data[HeaderSize+size:]
	}
	return out
}

// FuzzInbox: whatever a sender says, what is taken stays within the bounds, and names one entry of one folder.
func FuzzInbox(f *testing.F) {
	for _, story := range [][]Message{
		samples(),
		{Folder{Name: "d"}, File{Name: "f", Size: 3}, Body{N: 2}, Data("abc"), Done{}, Leave{}, End{}},
		{File{Name: "f", Size: 3}, File{Name: "g"}, Body{N: 2}, Done{}, Body{N: 1, From: 3}, Done{}, End{}},
		{Folder{}, Link{Name: "l", To: "/"}, Folder{Name: "l"}, File{Name: ".."}},
	} {
		var all []byte
		for _, m := range story {
			frame, err := Encode(m)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, frame...)
		}
		f.Add(all, true, true)
		f.Add(all, false, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, deep, resume bool) {
		inbox := Inbox{Deep: deep, Resume: resume}
		replies := Replies{Resume: resume}
		var named uint64
		for _, m := range frames(data) {
			if replies.Take(m) == nil && len(replies.asked) > 0 {
				t.Fatal("questions that nobody asked")
			}
			top := inbox.depth == 0
			n, err := inbox.Take(m)
			if err != nil {
				return
			}
			var name string
			switch m := m.(type) {
			case Folder:
				name = m.Name
				if !deep {
					t.Fatal("a folder that was not asked for")
				}
				if name == "" && top {
					name = "contents"
				}
			case File:
				name = m.Name
			case Link:
				name = m.Name
			default:
				continue
			}
			if named++; n != named || CheckName(name) != nil {
				t.Fatalf("%#v is taken as number %d", m, n)
			}
			if len(inbox.pending) > Window || inbox.depth > MaxDepth || (!resume && len(inbox.pending) > 1) {
				t.Fatal("beyond the bounds")
			}
		}
	})
}

// TestMemory: a message costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	var all [][]byte
	for _, m := range samples() {
		frame, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, frame)
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 80}, func(in []byte) {
		if len(in) > 0 {
			_, _ = Decode(in[0], in[min(len(in), HeaderSize):])
		}
	}, hostile.Inputs(MaxPayload, all...))
}
