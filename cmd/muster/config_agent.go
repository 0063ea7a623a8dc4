package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/folder"
)

// agentConfig is the configuration of an agent that runs here.
type agentConfig struct {
	app   *app
	flags *configFlags
	now   config.Config // as the agent starts with it
	level *slog.LevelVar
	log   *slog.Logger
}

// startConfig reads the configuration for an agent. With a mistake in it none starts: what it would do without what was meant
// nobody knows.
func (a *app) startConfig(flags *configFlags) (*agentConfig, error) {
	c := &agentConfig{app: a, flags: flags, level: new(slog.LevelVar)}
	var problems []config.Problem
	if c.now, problems = flags.read(a); len(problems) > 0 {
		return nil, config.Error(problems)
	}
	c.take(c.now)
	options := &slog.HandlerOptions{Level: c.level}
	var handler slog.Handler = slog.NewTextHandler(a.stderr, options)
	if c.now.LogFormat() == "json" {
		handler = slog.NewJSONHandler(a.stderr, options)
	}
	c.log = slog.New(handler)
	return c, nil
}

// take sets what this program itself goes by.
func (c *agentConfig) take(now config.Config) {
	_ = c.level.UnmarshalText([]byte(now.LogLevel())) // one of its words
	setMemoryLimit(now.Budgets().MemoryBytes)
}

// source is where the agent reads its configuration again.
func (c *agentConfig) source() host.Source {
	path, _ := c.flags.file(c.app)
	return host.Source{
		File:  path,
		Read:  func() (config.Config, []config.Problem) { return c.flags.read(c.app) },
		Taken: c.take,
	}
}

// follow has a host read its configuration again at every SIGHUP, until ctx ends. On a terminal that signal says that the
// terminal is gone, and ends the agent as it ends every program there.
func (c *agentConfig) follow(ctx context.Context, h *host.Host) {
	if isTerminal(os.Stdin) {
		return
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				if len(h.Reload()) == 0 {
					c.log.Info("the configuration was read again")
				}
			}
		}
	}()
}

// folderSays is what init or join were told, as far as this account may read it.
func folderSays(dir string) (out []config.Given) {
	told, err := folder.ToldOf(dir)
	if err != nil {
		return nil // no host yet; or the agent's start says what is wrong with it
	}
	say := func(name, text string) {
		if text != "" {
			out = append(out, config.Given{Name: name, Text: text, Origin: config.Origin{Source: config.Folder}})
		}
	}
	say(config.KeyName, told.Name)
	say(config.KeyBind, told.Host.Bind)
	say(config.KeyAdvertise, strings.Join(told.Host.Advertise, ","))
	if told.Outbound {
		say(config.KeyOutbound, "true")
	}
	return out
}

// configProblems says what is wrong with what the agent's next start would take: FILE:LINE and what.
func (a *app) configProblems() []string {
	var flags configFlags
	_, problems := flags.read(a)
	var out []string
	for _, p := range problems {
		out = append(out, p.Where+": "+p.What)
	}
	return out
}

// fill takes from a host's configuration what init and join were not told by a flag.
func (f *hostFlags) fill(a *app) error {
	conf := f.conf
	if conf == nil {
		conf = &configFlags{}
	}
	c, problems := conf.read(a)
	if len(problems) > 0 {
		return config.Error(problems)
	}
	told := func(key string) bool {
		k, _ := config.Find(key)
		flag := f.set.Lookup(k.Flag())
		return flag != nil && !flag.Changed && c.Get(key).Origin.Source <= config.File
	}
	if told(config.KeyName) {
		f.name = c.Name()
	}
	if told(config.KeyBind) {
		f.bind = c.Bind()
	}
	if told(config.KeyAdvertise) {
		f.advertise = c.Advertise()
	}
	if told(config.KeyOutbound) {
		f.outbound = c.Outbound()
	}
	return nil
}
