package node

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		Answer{}, Bell{}, HandOver{}, ParamCopies{}, ParamsAsk{}, ParamsNews{}, ParamsWatch{}, Read{}, RecordingCopies{},
		RecordingNote{}, SeedName{}, SessionAccepted{}, SessionAccepting{}, SessionAnswer{}, SessionAttached{},
		SessionAttaching{}, SessionCopies{}, SessionCopy{}, SessionDialled{}, SessionDialling{}, SessionDocumentAnswer{},
		SessionDocumentAsk{}, SessionOpened{}, SessionState{},
	)
	for name, kind := range map[string]byte{
		"SessionOpen": SessionOpen, "SessionAttach": SessionAttach, "SessionDial": SessionDial, "SessionAsk": SessionAsk, "SessionKill": SessionKill,
		"SessionWatch": SessionWatch, "SessionAPI": SessionAPI, "SessionAccept": SessionAccept, "SessionDocument": SessionDocument,
	} {
		formats["kind/"+name] = []byte{kind}
	}
	formats["bell"] = golden.Filled(Bell{}).(Bell).Encode()
	golden.Check(t, formats)
}
