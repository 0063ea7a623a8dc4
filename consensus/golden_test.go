package consensus

import (
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Replicas of other versions take what replicas of this one write, and compare by its bytes.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		OperatorRequest{}, Result{}, snapshotCommand{}, snapshotDocument{}, snapshotHead{}, snapshotHeadLevel{}, snapshotLabel{},
		snapshotParam{}, snapshotParamVersion{}, snapshotResult{}, snapshotTail{}, snapshotToken{}, snapshotTombstone{},
		snapshotVersion{},
	)
	for _, e := range []Entry{
		PutAct{}, PutToken{}, DeleteToken{}, PutCommand{}, PutCancel{}, PutRequest{}, PutDocument{}, ChangeDocument{}, PutGrants{},
		PutEndings{}, PutParams{}, ParamsDue{}, SetLevel{},
	} {
		formats["entry/"+reflect.TypeOf(e).Name()] = Encode(golden.Filled(e).(Entry), 1234567890123)
	}
	busy := busy(t).s
	formats["snapshot/level2"] = snapshot(t, busy)
	golden.Check(t, formats)
}
