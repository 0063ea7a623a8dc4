package agent

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write, and answer by the kind of a question.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		JoinHead{}, actsAsk{}, actsBody{}, beaconBody{}, beaconNote{}, cancelBody{}, checkupAsk{}, checkupBody{}, documentAsk{},
		factsBody{}, factsList{}, grantBody{}, heldBody{}, hpkeBody{}, keyAsk{}, keyBody{}, laneAnswers{}, laneAsks{}, leaderBody{},
		levelBody{}, namedBody{}, orderAsk{}, ordersAsk{}, ordersBody{}, outputAsk{}, paramsBody{}, plightBody{}, plightList{},
		recordingHaveBody{}, releaseAsk{}, replicaBody{}, seedsAsk{}, seedsBody{}, termAsk{}, watchBody{},
	)
	for name, kind := range map[string]byte{
		"askBeacon": askBeacon, "askActs": askActs, "askOrder": askOrder, "askOrders": askOrders, "askPropose": askPropose,
		"askRead": askRead, "askReport": askReport, "askWatch": askWatch, "askKey": askKey, "askReplica": askReplica,
		"askTerm": askTerm, "askPutFacts": askPutFacts, "askFacts": askFacts, "askEnrol": askEnrol, "askCancel": askCancel,
		"askGrant": askGrant, "askDocument": askDocument, "askOutput": askOutput, "askDecisions": askDecisions,
		"askNodeReport": askNodeReport, "askParams": askParams, "askParamWatch": askParamWatch, "askLane": askLane,
		"askSeed": askSeed, "askHandOver": askHandOver, "askHPKE": askHPKE, "askHeld": askHeld, "askNamed": askNamed,
		"askLevel": askLevel, "askCheckup": askCheckup, "askPlight": askPlight, "askPlights": askPlights, "done": done,
		"notLeader": notLeader, "joinAsk": joinAsk, "joinHead": joinHead, "joinActs": joinActs, "joinEnd": joinEnd,
		"outputHead": outputHead, "outputData": outputData, "outputMore": outputMore, "askKeepRecording": askKeepRecording,
		"recordingHave": recordingHave, "recordingData": recordingData, "recordingEnd": recordingEnd, "recordingKept": recordingKept,
		"askRelease": askRelease, "askChunks": askChunks, "releaseSigned": releaseSigned, "releaseHello": releaseHello,
		"releaseWant": releaseWant, "releaseChunk": releaseChunk, "releaseNone": releaseNone,
	} {
		formats["kind/"+name] = []byte{kind}
	}
	golden.Check(t, formats)
}
