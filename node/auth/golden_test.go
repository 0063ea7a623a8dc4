package auth

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions verify what operators and hosts of this one sign, and take the same acts.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		Act{}, Beacon{}, CharterBody{}, CharterEntry{}, Countersign{}, DeleteOperator{}, DeleteToken{}, EnrolRequest{}, Enrolment{},
		Envelope{}, Epoch{}, Genesis{}, GossipEpoch{}, GroupChange{}, Header{}, JoinString{}, KeyringChange{}, KeyringEpoch{},
		KeyringHolding{}, NodeRemove{}, NodeTags{}, Operator{}, PutPolicy{}, PutRoots{}, Readmit{}, Session{}, SessionKill{},
		SettingChange{}, Token{}, genesis1{}, putRoots1{},
	)
	for name, purpose := range map[string]Purpose{
		"ForBeacon": ForBeacon, "ForCancel": ForCancel, "ForCharter": ForCharter, "ForCommand": ForCommand,
		"ForCountersign": ForCountersign, "ForDocument": ForDocument, "ForDocumentChange": ForDocumentChange, "ForEnrol": ForEnrol,
		"ForFacts": ForFacts, "ForGroup": ForGroup, "ForHandOver": ForHandOver, "ForKeyring": ForKeyring,
		"ForKeyringEpoch": ForKeyringEpoch, "ForKeyringHolding": ForKeyringHolding, "ForNodeRemove": ForNodeRemove,
		"ForNodeTags": ForNodeTags, "ForParams": ForParams, "ForReadmit": ForReadmit, "ForRecording": ForRecording,
		"ForRelease": ForRelease, "ForReport": ForReport, "ForRequest": ForRequest, "ForSession": ForSession,
		"ForSessionKill": ForSessionKill, "ForSetting": ForSetting, "ForToken": ForToken, "ForTokenDelete": ForTokenDelete,
	} {
		formats["purpose/"+name] = []byte(purpose)
	}
	for name, kind := range map[string]ActKind{
		"ActCharter": ActCharter, "ActEnrol": ActEnrol, "ActNodeTags": ActNodeTags, "ActNodeRemove": ActNodeRemove,
		"ActGossipEpoch": ActGossipEpoch, "ActGroup": ActGroup, "ActSetting": ActSetting, "ActKeyring": ActKeyring,
		"ActKeyringEpoch": ActKeyringEpoch, "ActKeyringHolding": ActKeyringHolding,
	} {
		formats["act/"+name] = []byte{byte(kind)}
	}
	formats["signed"] = signedBytes("purpose", [32]byte{1}, []byte{2})
	golden.Check(t, formats)
}
