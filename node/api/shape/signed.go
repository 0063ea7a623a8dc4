package shape

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Signed is what every signed statement begins with.
type Signed struct {
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires,omitzero"`
	Charter fleet.ID  `json:"charter"`    // newest charter head that the signer had seen
	SeenAct uint64    `json:"signed_act"` // newest act index that the signer had seen
	Mode    auth.Mode `json:"mode"`
}

func ofHeader(h auth.Header) Signed {
	return Signed{At(h.Issued), At(h.Expires), h.Charter, h.Act, h.Mode}
}

func (s Signed) header(id fleet.UUID) auth.Header {
	return auth.Header{ID: id, Issued: Milli(s.Issued), Expires: Milli(s.Expires), Charter: s.Charter, Act: s.SeenAct, Mode: s.Mode}
}
