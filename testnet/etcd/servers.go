package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// voters is how many servers there are, as in the fleets that are compared.
const voters = 3

// patience is for the servers to elect a leader.
const patience = 30 * time.Second

// servers is the three of them, with connections to the one that leads.
type servers struct {
	dir     string
	running []*exec.Cmd
	clients []*clientv3.Client
}

func start(ctx context.Context, o options) (s *servers, err error) {
	s = &servers{dir: o.dir}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "muster-etcd-"); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.end())
		}
	}()
	client, peer, err := addresses()
	if err != nil {
		return nil, err
	}
	for n := range voters {
		if err := s.startOne(o.binary, n, client[n], peer); err != nil {
			return nil, err
		}
	}
	leader, err := s.leader(ctx, client)
	if err != nil {
		return nil, err
	}
	for range o.connections {
		c, err := connect(leader)
		if err != nil {
			return nil, err
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

// addresses finds ports of the loopback interface that are free now.
func addresses() (client, peer []string, err error) {
	var found []string
	for range 2 * voters {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		defer l.Close() // all of them are held until all are found
		found = append(found, "http://"+l.Addr().String())
	}
	return found[:voters], found[voters:], nil
}

func nameOf(n int) string { return fmt.Sprintf("e%d", n+1) }

// startOne starts a server with etcd's own defaults: 100 ms heartbeats, every write synced. It speaks in the clear, which
// spares it what TLS costs muster.
func (s *servers) startOne(binary string, n int, client string, peer []string) error {
	var all []string
	for i, url := range peer {
		all = append(all, nameOf(i)+"="+url)
	}
	log, err := os.Create(filepath.Join(s.dir, nameOf(n)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, "--name", nameOf(n), "--data-dir", filepath.Join(s.dir, nameOf(n)),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer[n], "--initial-advertise-peer-urls", peer[n],
		"--initial-cluster", strings.Join(all, ","), "--initial-cluster-state", "new",
		"--quota-backend-bytes", fmt.Sprint(6<<30), "--log-level", "error")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

func connect(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{strings.TrimPrefix(endpoint, "http://")}, DialTimeout: patience})
}

// leader waits for one and returns its address: asking it directly spares every request a hop.
func (s *servers) leader(ctx context.Context, client []string) (string, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		for _, url := range client {
			if leads(ctx, url) {
				return url, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no etcd leads after %s; see the logs of the servers", patience)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func leads(ctx context.Context, url string) bool {
	c, err := connect(url)
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	status, err := c.Status(ctx, strings.TrimPrefix(url, "http://"))
	return err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId
}

// end kills the servers and removes their data.
func (s *servers) end() error {
	var all error
	for _, c := range s.clients {
		all = errors.Join(all, c.Close())
	}
	for _, cmd := range s.running {
		all = errors.Join(all, cmd.Process.Kill())
		_ = cmd.Wait() // it says that it was killed
	}
	return errors.Join(all, os.RemoveAll(s.dir))
}
