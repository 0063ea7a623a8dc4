package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// Gate says who may speak. Its methods are called from many goroutines and must answer from memory, at once.
type Gate interface {
	// Prove returns what is shown in the hello of a connection, at most MaxProof bytes: the enrolment record. It is not
	// called for a connection that joins, whose proof is empty.
	Prove(plane Plane) []byte
	// Admit judges a new connection, at both ends. The peer has proved its key, and that it means this fleet.
	Admit(peer fleet.ID, plane Plane, proof []byte) error
	// Allow judges every stream again, at both ends, so that a peer that was removed or demoted is refused at once.
	Allow(peer fleet.ID, plane Plane) error
}

// Carrier is what a Gate may be besides. MayCarry judges at each stream who may bring pipes to this node, or ask for them in
// another's name, as relays do: it must answer as Allow does. A Gate that is none lets do so whom it allows on the Relay
// plane, operators as well.
type Carrier interface{ MayCarry(peer fleet.ID) error }

// StreamFunc serves one incoming stream, on a goroutine of its own. It owns the stream: it, or whoever it hands the
// stream to, must Close it. A panic costs the stream, not the agent.
type StreamFunc func(*Stream)

// PacketFunc takes one genuine packet; payload is its own. It runs on one of the goroutines that read packets: while it
// takes its time there is one fewer, and bursts are lost. It must not wait for anything, nor call Endpoint.Close.
type PacketFunc func(from netip.AddrPort, payload []byte, at time.Time)

// Config is what an Endpoint needs. All but Log must be given.
type Config struct {
	Conn  net.PacketConn                  // owned from Start on; a *net.UDPConn must come unwrapped, or quic-go is ten times slower
	Key   ed25519.PrivateKey              // the node's key; its hash is the node's ID
	Fleet fleet.ID                        // peers of other fleets are refused
	Gate  Gate                            //
	Addrs func(fleet.ID) []netip.AddrPort // where a peer may be, best first; at most 16 are tried
	// DialOnly is set for an operator's command line: nobody can open a connection to it, and packets are not read.
	DialOnly bool
	// Relays returns the peers through which a node may be reached, best first; nil: none are. Direct addresses are tried
	// first. This node's own ID among them stands for the uplink that the node itself keeps here.
	Relays func(fleet.ID) []fleet.ID
	// NoRelay is set where nothing is carried for others.
	NoRelay bool
	Log     *slog.Logger // nil: nothing is logged
}

// Endpoint is the node's end of the network. All methods are safe for concurrent use.
type Endpoint struct {
	conn      net.PacketConn
	dialOnly  bool
	id        fleet.ID
	fleet     fleet.ID
	gate      Gate
	addrs     func(fleet.ID) []netip.AddrPort
	log       *slog.Logger
	leaf      tls.Certificate
	instance  [saltSize]byte
	began     time.Time
	counted   counted
	transport *quic.Transport
	pool      *pool
	door      *door
	seen      sightings
	grown     atomic.Int64 // bytes of growthBudget that are given away
	sealer    *sealer
	opener    *opener
	relays    func(fleet.ID) []fleet.ID
	noRelay   bool
	patrons   *patrons

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // our goroutines, but for handlers

	mu       sync.Mutex
	started  bool
	closing  bool
	listener *quic.Listener
	streams  map[Plane]StreamFunc
	packets  map[Kind]PacketFunc
	flights  map[destination]*flight
	inner    *inner // nil: there was no pipe yet
}

// New makes an Endpoint that does nothing until Start.
func New(cfg Config) (*Endpoint, error) {
	if cfg.Conn == nil || len(cfg.Key) != ed25519.PrivateKeySize || cfg.Fleet.IsZero() || cfg.Gate == nil || cfg.Addrs == nil {
		return nil, fleet.Errorf(fleet.Internal, "transport needs a socket, a node key, a fleet, a gate and addresses")
	}
	leaf, err := leafOf(cfg.Key)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		conn:     cfg.Conn,
		dialOnly: cfg.DialOnly,
		id:       fleet.Sum(cfg.Key.Public().(ed25519.PublicKey)),
		fleet:    cfg.Fleet,
		gate:     cfg.Gate,
		addrs:    cfg.Addrs,
		log:      cfg.Log,
		leaf:     leaf,
		began:    time.Now(),
		door:     newDoor(),
		opener:   newOpener(cfg.Fleet),
		streams:  map[Plane]StreamFunc{},
		packets:  map[Kind]PacketFunc{},
		flights:  map[destination]*flight{},
		relays:   cfg.Relays,
		noRelay:  cfg.NoRelay,
		patrons:  newPatrons(),
	}
	e.streams[Relay] = e.serveRelay
	if e.relays == nil {
		e.relays = func(fleet.ID) []fleet.ID { return nil }
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	_, _ = rand.Read(e.instance[:]) // never fails: crypto/rand ends the process instead
	e.pool = newPool(e.id)
	e.sealer = &sealer{fleet: cfg.Fleet, salt: e.instance}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.transport = e.newTransport(cfg.Conn, func(from netip.AddrPort) (func(), error) { return e.door.enter(from.Addr()) })
	e.transport.VerifySourceAddress = func(net.Addr) bool { return e.door.mustProve(time.Now()) }
	return e, nil
}

// admission takes a place among those who have not said hello, for whoever comes from an address; leave gives it back.
type admission func(from netip.AddrPort) (leave func(), err error)

func (e *Endpoint) newTransport(conn net.PacketConn, enter admission) *quic.Transport {
	key := e.leaf.PrivateKey.(ed25519.PrivateKey)
	resetKey := quic.StatelessResetKey(derive(key, "stateless reset"))
	tokenKey := quic.TokenGeneratorKey(derive(key, "address token"))
	return &quic.Transport{
		Conn:               conn,
		ConnectionIDLength: 8,
		StatelessResetKey:  &resetKey, // the same after a restart, so that peers learn of it at once
		TokenGeneratorKey:  &tokenKey,
		ConnContext: func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			return e.meet(ctx, info, enter)
		},
	}
}

// ID returns this node's ID.
func (e *Endpoint) ID() fleet.ID { return e.id }

// LocalAddr returns the socket's address, which may be a wildcard.
func (e *Endpoint) LocalAddr() netip.AddrPort { return addrPort(e.conn.LocalAddr()) }

// Observed returns the addresses at which peers say they see this node, the latest first, at most 8. Each is one peer's
// word.
func (e *Endpoint) Observed() []netip.AddrPort { return e.seen.newest() }

// Handle sets who serves a plane's incoming streams. Call it before Start; a plane without one is not served. The Relay
// plane is the Endpoint's own.
func (e *Endpoint) Handle(plane Plane, serve func(*Stream)) {
	if _, known := plane.limits(); !known || plane == Relay {
		panic("transport: no plane " + string(plane))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams[plane] = serve
}

func (e *Endpoint) handler(plane Plane) StreamFunc {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.streams[plane]
}

// HandlePackets sets who takes packets of a kind; see PacketFunc for what it must not do. Call it before Start; kinds
// without one are dropped.
func (e *Endpoint) HandlePackets(kind Kind, take func(from netip.AddrPort, payload []byte, at time.Time)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packets[kind] = take
}

// SetKeys replaces the fleet's gossip keys. Until the first call no packet is sent or taken.
func (e *Endpoint) SetKeys(keys Keys) {
	e.opener.use(keys)
	e.sealer.use(keys)
}

// Start begins to serve the socket. From then on the socket is the Endpoint's, and Close closes it.
func (e *Endpoint) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started || e.closing {
		return fleet.Errorf(fleet.Internal, "transport was started or closed before")
	}
	if e.dialOnly {
		e.started = true
		return nil
	}
	e.openQueue()
	listener, err := e.transport.Listen(serverTLS(e.leaf, alpns()), e.serverQUIC())
	if err != nil {
		return &fleet.Error{Kind: fleet.Unavailable, What: "cannot serve " + e.conn.LocalAddr().String() + "/udp", Err: err}
	}
	e.started, e.listener = true, listener
	e.readPackets()
	e.tasks.Go(func() { e.acceptAll(listener) })
	return nil
}

// Close ends all connections, telling the peers, and closes the socket. It waits for what the Endpoint started but not
// for StreamFuncs: their streams fail.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil
	}
	e.closing = true
	started := e.started
	e.mu.Unlock()

	e.cancel()
	direct, throughPipes := e.pool.shut()
	closeAll(throughPipes, closeGone, "") // while there is somebody to carry that word
	closeAll(direct, closeGone, "")
	if started {
		if e.listener != nil {
			_ = e.listener.Close()
		}
		if e.inner != nil {
			e.inner.shut()
		}
		e.tasks.Wait()
		if e.inner != nil {
			e.inner.close()
		}
		_ = e.transport.Close()
	}
	return e.conn.Close()
}

// Drop closes all connections with a peer, and so ends its streams; why is told to it in one line.
func (e *Endpoint) Drop(id fleet.ID, why string) {
	closeAll(e.pool.of(id), closeRefused+quic.ApplicationErrorCode(fleet.Denied), printable(why))
}

// serverQUIC serves every plane: QUIC does not know the plane yet when the connection begins.
func (e *Endpoint) serverQUIC() *quic.Config {
	cfg := commonQUIC()
	cfg.EnableDatagrams = true                        // for the Relay plane; on others they are not read
	cfg.MaxConnectionReceiveWindow = maxSessionWindow // as far as mayGrow lets it
	cfg.AllowConnectionWindowIncrease = e.mayGrow
	return cfg
}

func commonQUIC() *quic.Config {
	return &quic.Config{
		InitialPacketSize:              MaxPacket, // passes everywhere; quic-go finds out if more does
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		InitialStreamReceiveWindow:     firstWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		MaxIncomingStreams:             maxStreams + 1, // and the control stream
		MaxIncomingUniStreams:          -1,
	}
}

func clientQUIC(plane Plane, limits planeLimits) *quic.Config {
	cfg := commonQUIC()
	cfg.EnableDatagrams = plane == Relay
	cfg.MaxIncomingStreams = int64(max(maxStreams, limits.offers))
	cfg.InitialConnectionReceiveWindow, cfg.MaxConnectionReceiveWindow = limits.window, limits.window
	cfg.MaxIdleTimeout = limits.idle
	cfg.KeepAlivePeriod = limits.keepAlive
	return cfg
}

// guest is what an incoming connection holds of what all share.
type guest struct {
	leave   func()       // gives back its place among strangers
	crowd   atomic.Bool  // it is of a plane whose windows may grow
	granted atomic.Int64 // of growthBudget
}

// guestKey finds a guest in its connection's context.
type guestKey struct{}

func guestOf(conn *quic.Conn) *guest { return conn.Context().Value(guestKey{}).(*guest) }

// mayGrow decides whether the window of an incoming connection grows. QUIC forbids it to ask the connection anything.
func (e *Endpoint) mayGrow(conn *quic.Conn, delta uint64) bool {
	return e.grant(guestOf(conn), delta)
}

func (e *Endpoint) grant(g *guest, delta uint64) bool {
	if !g.crowd.Load() {
		return false
	}
	if e.grown.Add(int64(delta)) > growthBudget {
		e.grown.Add(-int64(delta))
		return false
	}
	g.granted.Add(int64(delta))
	return true
}

// meet is asked by quic-go before it spends anything on a stranger's connection.
func (e *Endpoint) meet(ctx context.Context, info *quic.ClientInfo, enter admission) (context.Context, error) {
	leave, err := enter(addrPort(info.RemoteAddr))
	if err != nil {
		return nil, err
	}
	g := &guest{leave: leave}
	context.AfterFunc(ctx, func() { // however the connection ends
		leave()
		e.grown.Add(-g.granted.Load())
	})
	return context.WithValue(ctx, guestKey{}, g), nil
}

func (e *Endpoint) acceptAll(listener *quic.Listener) {
	for {
		conn, err := listener.Accept(e.ctx)
		if err != nil {
			if !errors.Is(err, quic.ErrServerClosed) && e.ctx.Err() == nil {
				e.log.Error("the socket fails", "err", err)
			}
			return
		}
		e.tasks.Go(func() { e.receive(conn) })
	}
}

// receive says hello to a peer that dialled, and serves it.
func (e *Endpoint) receive(conn *quic.Conn) {
	l, err := e.welcome(conn)
	if err != nil {
		e.log.Debug("connection refused", "from", conn.RemoteAddr(), "err", err)
		_ = conn.CloseWithError(closing(err))
		return
	}
	l.run()
}
