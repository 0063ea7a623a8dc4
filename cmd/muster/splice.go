package main

import (
	"errors"
	"io"
	"sync"
)

// half is a connection whose directions end apart, as those of TCP do.
type half interface {
	io.ReadWriteCloser
	// CloseWrite tells the other end that nothing more comes; reading goes on.
	CloseWrite() error
}

// spliceChunk is how much of a connection is in memory in each direction, in bytes, beside what the network holds.
const spliceChunk = 64 << 10

// splice carries bytes both ways until both directions have ended, or one breaks, and closes both ends. The end of one
// direction is passed on, so that whoever says "that was all" still hears the answer. It returns what broke.
func splice(near, far half) error {
	var both sync.WaitGroup
	var out, back error
	both.Go(func() { out = pour(far, near) })
	both.Go(func() { back = pour(near, far) })
	both.Wait()
	near.Close()
	far.Close()
	return errors.Join(out, back)
}

func pour(to, from half) error {
	// Bare, as io.Copy would go by the ends' own ReadFrom and WriteTo, whose pieces are smaller.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, spliceChunk))
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		breakOff(to) // the other direction must not wait for a connection of which half is dead
		breakOff(from)
	}
	return err
}

// breakOff ends a connection in a way that its other end cannot take for an orderly one: half of something would else be taken
// for all of it.
func breakOff(h half) {
	switch h := h.(type) {
	case interface{ Abort() }:
		h.Abort()
	case interface{ SetLinger(sec int) error }:
		_ = h.SetLinger(0)
	}
	h.Close()
}
