// Package api is the agent's local API on a unix socket, and its Go client: how the command line, scripts and curl ask
// the agent of their own host.
//
// It owns the socket, who may ask what, and the paths; the JSON shapes are in node/api/shape. It never decides what an
// operator may do: entries and reads carry operators' signatures, which servers and nodes verify. Its invariants: every
// request is bounded in bytes and in time, every caller in open connections, and no browser gets an answer.
//
// Beside the socket there is a second door, for operators at no host of the fleet (Operators): whoever has proved an operator's
// key at the other end of a connection hands it in. They may what is for anyone and for members of the group, with signatures
// as everywhere; nothing that is root's or an account's of this host is theirs. DESIGN.md says why.
//
// The socket can be opened by anyone (mode 0666), because everyone on a host may ask for its status; the kernel says who
// the caller is (SO_PEERCRED), and each path asks for what it needs:
//
//	GET  /v1/version    anyone
//	GET  /v1/status     anyone
//	GET  /v1/nodes      root, the agent's own account, members of the group muster
//	GET  /v1/nodes/NODE the same: one of them, by name, ID or the beginning of one, without what it says of itself
//	GET  /v1/quorum     the same
//	GET  /v1/operators  the same
//	GET  /v1/record?from=N the same: the fleet's record from act N on, for those who verify it themselves (Client.Verified)
//	GET  /v1/policy     the same: the text that this host judges by
//	GET  /v1/groups     the same: the saved targets
//	GET  /v1/settings   the same: those that are not at their default
//	GET  /v1/usage      the same: what the data folder takes of the disk
//	POST /v1/entries    anyone: what is posted is signed by an operator
//	POST /v1/read       anyone: the same
//	POST /v1/watch      anyone: the same; answers with JSON lines until the caller hangs up; with "signed" also as nodes signed them
//	POST /v1/direct     anyone: the same; an order that the quorum does not see
//	POST /v1/output/ID  anyone: the same; all that a run wrote on the node of that ID, as bytes
//	POST /v1/why/ID     anyone: the same; what the node decided about a command
//	POST /v1/report/ID  anyone: the same; the node's own report of a command, signed by it
//	POST /v1/params/read   anyone: an operator's signature says for whom; without one it is the caller's own account, for
//	                       which policy is asked as LocalUser; root and the agent's own account are the node itself
//	POST /v1/params/watch  the same; what happens to parameters, as JSON lines until the caller hangs up
//	GET  /v1/lane          the same; upgraded to frames of many entries and questions at a time, for busy programs (Client.Lane)
//	GET  /v1/sessions   root, the agent's own account: who has a session on this host, and had lately
//	PUT  /v1/releases   root, the agent's own account, operators elsewhere; others with an operator's signature in the header
//	                    Muster-Statement: a release file, which is verified before it is kept
//	GET  /v1/releases   root, the agent's own account, members of the group muster: the releases that lie on this host
//	POST /v1/releases/DIGEST/fetch   root, the agent's own account: brings it here from others; JSON lines of progress, the last
//	                    with the path of the binary
//	POST /v1/releases/DIGEST/give-up the same: ends that, and lets go of what came
//	POST /v1/restart    root, the agent's own account: the agent starts its program anew as the same process
//	POST /v1/leave      root, the agent's own account
//
// For example:
//
//	curl --unix-socket /run/muster/agent.sock http://muster/v1/status
//	curl --unix-socket /run/muster/agent.sock http://muster/v1/nodes
//	curl --unix-socket /run/muster/agent.sock -X POST http://muster/v1/leave
//	curl --unix-socket /run/muster/agent.sock http://muster/v1/read -d '{"statement":"lQEB…"}'
//
// Output comes as it was written. The header Muster-Output says how much there is when it begins; behind it the trailer
// Muster-Output-End says the same as of the end, with the digest, and stands for a whole answer: when it broke off there is
// Muster-Error in its place. Both hold JSON.
//
// An answer that is none has a fitting HTTP status and the body {"error":{"kind":…,"what":…,"hint":…}}; the last line
// of a watch that failed has the same form. Requests must name the host muster or localhost and must not come from a web
// page (no Origin header).
package api
