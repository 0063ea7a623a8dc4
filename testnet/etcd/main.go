package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "etcd: %s\n", err)
		os.Exit(1)
	}
}

// options is what the command line asks for.
type options struct {
	binary      string
	dir         string
	connections int
}

func parseOptions(args []string, help io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(help)
	flags.StringVar(&o.binary, "etcd", "/usr/bin/etcd", "the server's `binary`")
	flags.StringVar(&o.dir, "dir", "", "a `folder` for the servers' data; one in the temporary folder unless given, removed at the end either way")
	flags.IntVar(&o.connections, "connections", 4, "to the leader, shared by the clients; one alone would be their bottleneck")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("no arguments are taken, but there is %q", flags.Arg(0))
	}
	if o.connections < 1 {
		return o, errors.New("--connections: at least one")
	}
	return o, nil
}

func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	lines := bufio.NewScanner(stdin)
	answers := json.NewEncoder(stdout)
	for lines.Scan() {
		t, err := parseTask(lines.Text())
		if err != nil {
			return err
		}
		r, err := s.load(ctx, t)
		if err != nil {
			return err
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

// task is one line of input.
type task struct {
	op      string
	clients int
	over    time.Duration
}

// mostClients bounds what one process is good for.
const mostClients = 4096

func parseTask(line string) (t task, err error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return t, fmt.Errorf("%q is not: put|get|stale CLIENTS DURATION", line)
	}
	t.op = words[0]
	if t.op != opPut && t.op != opGet && t.op != opStale {
		return t, fmt.Errorf("%q: there is put, get and stale", t.op)
	}
	if t.clients, err = strconv.Atoi(words[1]); err != nil || t.clients < 1 || t.clients > mostClients {
		return t, fmt.Errorf("%q: 1 to %d clients", words[1], mostClients)
	}
	if t.over, err = time.ParseDuration(words[2]); err != nil || t.over <= 0 {
		return t, fmt.Errorf("%q is no duration", words[2])
	}
	return t, nil
}
