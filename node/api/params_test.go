package api

import (
	"context"

	"github.com/muster-fleet/muster/node"
)

// paramsStub answers about parameters what it was made with, and keeps what it was asked.
type paramsStub struct {
	read     ParamsRead
	news     []ParamsNews
	readErr  error
	asked    node.ParamsAsk
	watching node.ParamsWatch
}

func (s *paramsStub) ReadParams(_ context.Context, ask ParamsAsk) (ParamsRead, error) {
	s.asked = ask
	return s.read, s.readErr
}

func (s *paramsStub) WatchParams(_ context.Context, watch ParamsWatch, each func(ParamsNews) error) error {
	s.watching = watch
	for _, n := range s.news {
		if err := each(n); err != nil {
			return err
		}
	}
	return s.readErr
}
