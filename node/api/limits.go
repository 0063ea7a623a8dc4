package api

import "time"

// Limits of the socket. None depends on the fleet's size but the answers, which hold 20,000 nodes.
const (
	maxEntryBody     = 1 << 20  // an entry of consensus.MaxEntry in base64 and some room
	maxStatementBody = 16 << 10 // a signed read takes a few hundred bytes
	maxParamsBody    = 64 << 10 // a question about parameters: ten names of a thousand bytes, or filters, in JSON
	maxHeader        = 8 << 10
	maxAnswer        = 64 << 20
	maxAnswerHeader  = 64 << 10 // an output's head in JSON, and what HTTP has
	maxLine          = 4 << 20  // of a watch: a command with its 10,000 nodes in full takes 0.6 MB

	maxConnections = 512 // open at once
	maxPerUser     = 64  // of them, of one account that is not root

	maxOperatorConnections = 256      // open at once, of all operators; of one, the agent bounds them
	operatorPiece          = 64 << 10 // bytes of an answer that an operator's end must take within lineTime

	headerTime   = 5 * time.Second
	bodyTime     = 30 * time.Second
	idleTime     = 60 * time.Second
	lineTime     = 30 * time.Second // a watcher that takes no line for so long is gone
	shutdownTime = 2 * time.Second

	maxSocketPath = 107 // bytes; sockaddr_un has room for 108 with the zero behind it
)
