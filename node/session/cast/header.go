package cast

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Header is what a recording begins with.
type Header struct {
	Session  fleet.UUID
	Node     fleet.ID
	NodeName string
	Operator string   // name of who opened the session
	By       fleet.ID // his key
	User     string   // account on the node
	Kind     string   // shell, exec, forward, copy
	Argv     []string // what ran; one element is a shell line; empty for a login shell
	Reason   string
	Terminal string // TERM; empty: streams without a terminal
	Rows     uint16 // of the terminal at the start; 0: 24, as the format wants some
	Cols     uint16 // likewise 80
	Start    time.Time
	Input    bool // what was typed is recorded too
}

// shape is the header's line. What players know stands at the top, what is ours in a field of its own.
type shape struct {
	Version   int               `json:"version"`
	Width     uint16            `json:"width"`
	Height    uint16            `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Muster    *shapeMuster      `json:"muster,omitempty"`
}

type shapeMuster struct {
	Session  fleet.UUID `json:"session"`
	Node     string     `json:"node"` // whole
	NodeName string     `json:"nodeName"`
	Operator string     `json:"operator"`
	By       string     `json:"by"` // whole
	User     string     `json:"user"`
	Kind     string     `json:"kind"`
	Argv     []string   `json:"argv,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Start    time.Time  `json:"start"`
	Input    bool       `json:"input"`
}

// sizes of a terminal that has none: a format's need, not a claim.
const (
	noRows = 24
	noCols = 80
)

func (h Header) encode() []byte {
	s := shape{
		Version: 2, Width: h.Cols, Height: h.Rows, Timestamp: h.Start.Unix(), Command: strings.Join(h.Argv, " "), Title: h.title(),
		Muster: &shapeMuster{
			Session: h.Session, Node: h.Node.Text(), NodeName: h.NodeName, Operator: h.Operator, By: h.By.Text(), User: h.User,
			Kind: h.Kind, Argv: h.Argv, Reason: h.Reason, Start: h.Start.UTC(), Input: h.Input,
		},
	}
	if s.Height == 0 {
		s.Height = noRows
	}
	if s.Width == 0 {
		s.Width = noCols
	}
	if h.Terminal != "" {
		s.Env = map[string]string{"TERM": h.Terminal}
	}
	line, err := json.Marshal(s)
	if err != nil {
		panic("cast: " + err.Error()) // only for years that JSON cannot hold
	}
	return append(line, '\n')
}

// title is what players show: user@node, who and what.
func (h Header) title() string {
	name := h.NodeName
	if name == "" {
		name = h.Node.String()
	}
	return h.User + "@" + name + " by " + h.Operator
}

func parseHeader(line []byte) (Header, error) {
	var s shape
	if err := json.Unmarshal(line, &s); err != nil {
		return Header{}, fleet.Errorf(fleet.Invalid, "this is no recording: its first line is no asciicast header: %w", err)
	}
	if s.Version != 2 {
		return Header{}, fleet.Errorf(fleet.Invalid, "the recording is asciicast version %d; this version reads 2", s.Version)
	}
	h := Header{Rows: s.Height, Cols: s.Width, Start: time.Unix(s.Timestamp, 0).UTC(), Terminal: s.Env["TERM"]}
	m := s.Muster
	if m == nil { // of another program
		return h, h.checkStart()
	}
	h.Session, h.NodeName, h.Operator, h.User, h.Kind = m.Session, m.NodeName, m.Operator, m.User, m.Kind
	h.Argv, h.Reason, h.Start, h.Input = m.Argv, m.Reason, m.Start, m.Input
	var err error
	if h.Node, err = fleet.ParseID(m.Node); err != nil {
		return Header{}, err
	}
	if h.By, err = fleet.ParseID(m.By); err != nil {
		return Header{}, err
	}
	return h, h.checkStart()
}

// checkStart keeps to years that JSON can hold, wherever on earth.
func (h Header) checkStart() error {
	if year := h.Start.Year(); year < 1970 || year > 9998 {
		return fleet.Errorf(fleet.Invalid, "a recording that began in the year %d", year)
	}
	return nil
}
