package api

import (
	"context"
	"testing"

	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// configStub is a stub that has a configuration.
type configStub struct {
	stub
	said     HostConfig
	reloaded int
}

func (s *configStub) Config(context.Context) HostConfig { return s.said }
func (s *configStub) ReloadConfig(context.Context) HostConfig {
	s.reloaded++
	return s.said
}

func TestConfigOverTheSocket(t *testing.T) {
	given, _ := config.Parse("f", []byte("paused: true\n"))
	c, _ := config.Resolve(given)
	b := &configStub{said: HostConfig{Config: c, File: "f", Problems: []config.Problem{{Where: "f:2", What: "wrong", Hint: "mend"}}, Later: []config.Value{{Name: "bind"}}}}
	client := serve(t, b)
	got, err := client.Config(t.Context())
	if err != nil || !got.Running || got.File != "f" || len(got.Values) != len(config.Keys()) || len(got.Problems) != 1 || got.Problems[0].Hint != "mend" || got.Later[0] != "bind" {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, v := range got.Values {
		if v.Key == config.KeyPaused && (v.Value != "true" || v.Source != "file" || v.Where != "f:1" || !v.Live) {
			t.Errorf("%+v", v)
		}
	}
	if _, err := client.ReloadConfig(t.Context()); err != nil || b.reloaded != 1 {
		t.Errorf("%d reloads, %v", b.reloaded, err)
	}
	if _, err := serve(t, &stub{}).Config(t.Context()); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("an agent without a configuration: %v", err)
	}
}
