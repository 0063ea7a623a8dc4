package line_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
)

// joined returns two ends over a unix socket, as a supervisor and its agent are.
func joined(b *testing.B, window int) (client, program *line.End) {
	listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	client, program = line.New(flow.FromProgram, window, nil), line.New(flow.ToProgram, window, nil)
	go join(client, program, near, far)
	b.Cleanup(func() { client.Close(); program.Close() })
	return client, program
}

func BenchmarkBulk(b *testing.B) {
	client, program := joined(b, flow.BulkWindow)
	data := make([]byte, flow.MaxPayload)
	b.SetBytes(flow.MaxPayload)
	go func() {
		for range b.N {
			_ = program.Push(b.Context(), flow.Output(data))
		}
	}()
	for range b.N {
		number, _, err := client.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		client.Done(number)
	}
}

func BenchmarkEcho(b *testing.B) {
	client, program := joined(b, flow.TerminalWindow)
	go func() {
		for range b.N {
			number, f, err := program.Next(b.Context())
			if err != nil {
				return
			}
			_ = program.Push(b.Context(), flow.Output(f.(flow.Input)))
			program.Done(number)
		}
	}()
	for range b.N {
		_ = client.Push(b.Context(), flow.Input("a"))
		number, _, err := client.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		client.Done(number)
	}
}
