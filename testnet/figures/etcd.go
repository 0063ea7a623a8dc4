package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// etcd is the rival: testnet/etcd, which loads three servers of its own as it is told.
type etcd struct {
	cmd   *exec.Cmd
	tell  io.WriteCloser
	heard *bufio.Reader
}

// startEtcd builds the rival, which is a module of its own, and starts it.
func startEtcd(ctx context.Context, folder string) (*etcd, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/muster-fleet/muster").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	binary := filepath.Join(folder, "etcd-load")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join(strings.TrimSpace(string(root)), "testnet", "etcd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build of testnet/etcd: %w: %s", err, out)
	}
	data := filepath.Join(folder, "etcd-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	e := &etcd{cmd: exec.CommandContext(ctx, binary, "--dir", data)}
	e.cmd.Stderr = os.Stderr
	e.cmd.Cancel = func() error { return e.cmd.Process.Signal(os.Interrupt) }
	e.cmd.WaitDelay = 10 * time.Second
	if e.tell, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.heard = bufio.NewReader(out)
	return e, e.cmd.Start()
}

// load has the rival loaded.
func (e *etcd) load(op loadOp, clients int, over time.Duration) (r rates, err error) {
	if _, err := fmt.Fprintf(e.tell, "%s %d %s\n", op, clients, over); err != nil {
		return r, err
	}
	line, err := e.heard.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("etcd: %w", err)
	}
	return r, json.Unmarshal(line, &r)
}

func (e *etcd) end() error {
	if e == nil {
		return nil
	}
	return errors.Join(e.tell.Close(), e.cmd.Wait())
}
