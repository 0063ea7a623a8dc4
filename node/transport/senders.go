package transport

import (
	"container/list"
	"crypto/cipher"
)

// senderID names one process under one key epoch.
type senderID struct {
	epoch uint32
	salt  [saltSize]byte
}

type sender struct {
	id     senderID
	aead   cipher.AEAD
	window window
}

// senders is a bounded set of senders; the one unheard for longest makes room.
type senders struct {
	limit int
	byID  map[senderID]*list.Element
	order *list.List // of *sender, newest first
}

func newSenders(limit int) *senders {
	return &senders{limit: limit, byID: map[senderID]*list.Element{}, order: list.New()}
}

func (s *senders) get(id senderID) *sender {
	e, ok := s.byID[id]
	if !ok {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*sender)
}

func (s *senders) add(id senderID, aead cipher.AEAD) *sender {
	if s.order.Len() >= s.limit {
		s.drop(s.order.Back())
	}
	added := &sender{id: id, aead: aead}
	s.byID[id] = s.order.PushFront(added)
	return added
}

func (s *senders) forget(gone func(senderID) bool) {
	var next *list.Element
	for e := s.order.Front(); e != nil; e = next {
		next = e.Next()
		if gone(e.Value.(*sender).id) {
			s.drop(e)
		}
	}
}

func (s *senders) drop(e *list.Element) {
	delete(s.byID, e.Value.(*sender).id)
	s.order.Remove(e)
}

// window remembers which of the last replayWindow counters were seen. Counters start at 1.
type window struct {
	newest uint64
	seen   [replayWindow / 64]uint64 // bit counter % replayWindow
}

// fresh reports whether counter is neither seen nor too old to tell.
func (w *window) fresh(counter uint64) bool {
	switch {
	case counter == 0:
		return false
	case counter > w.newest:
		return true
	case w.newest-counter >= replayWindow:
		return false
	}
	word, bit := place(counter)
	return w.seen[word]&bit == 0
}

// mark notes counter as seen and reports whether it was fresh.
func (w *window) mark(counter uint64) bool {
	if !w.fresh(counter) {
		return false
	}
	if counter > w.newest {
		w.slide(counter)
	}
	word, bit := place(counter)
	w.seen[word] |= bit
	return true
}

// slide forgets what newest leaves behind.
func (w *window) slide(newest uint64) {
	if newest-w.newest >= replayWindow {
		w.seen = [replayWindow / 64]uint64{}
	} else {
		for c := w.newest + 1; c <= newest; c++ {
			word, bit := place(c)
			w.seen[word] &^= bit
		}
	}
	w.newest = newest
}

func place(counter uint64) (word int, bit uint64) {
	at := counter % replayWindow
	return int(at / 64), 1 << (at % 64)
}
