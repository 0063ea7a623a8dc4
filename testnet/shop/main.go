package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
)

func main() {
	config := flag.String("config", "shop.conf", "file with url and password of the database")
	listen := flag.String("listen", "127.0.0.1:0", "address to serve at")
	flag.Parse()
	if err := run(*config, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(config, listen string) error {
	var now atomic.Pointer[map[string]string]
	read := func() error {
		values, err := load(config)
		if err == nil {
			now.Store(&values)
		}
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP) // from here on: whoever reads the file of our process ID may send it
	if err := read(); err != nil {
		return err
	}
	go func() {
		for range reload {
			if err := read(); err != nil {
				log.Print(err)
			}
		}
	}()
	http.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		if err := login(*now.Load()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%s is open\n", os.Getenv("TITLE"))
	})
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile("shop.addr", []byte(l.Addr().String()), 0o600),
		os.WriteFile("shop.pid", fmt.Append(nil, os.Getpid()), 0o600),
	)
	if err != nil {
		return err
	}
	return http.Serve(l, nil)
}

// load reads name=value lines.
func load(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return values, nil
}

// login asks the database whether the password is right.
func login(config map[string]string) error {
	want, err := os.ReadFile(strings.TrimPrefix(config["database"], "file://"))
	switch {
	case err != nil:
		return err
	case config["password"] == "" || string(want) != config["password"]:
		return errors.New("the database refuses the password")
	}
	return nil
}
