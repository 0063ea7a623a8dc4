package api

import (
	"net/http"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// httpStatus returns the HTTP status that fits a kind of error.
func httpStatus(k fleet.Kind) int {
	switch k {
	case fleet.Invalid:
		return http.StatusBadRequest
	case fleet.Denied:
		return http.StatusForbidden
	case fleet.NotFound:
		return http.StatusNotFound
	case fleet.Conflict:
		return http.StatusConflict
	case fleet.Unavailable:
		return http.StatusServiceUnavailable
	case fleet.Expired:
		return http.StatusGone
	case fleet.Exhausted:
		return http.StatusTooManyRequests
	case fleet.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

func fail(w http.ResponseWriter, err error) {
	write(w, httpStatus(fleet.KindOf(err)), shape.Failure{Error: shape.OfError(err)})
}

func write(w http.ResponseWriter, status int, body any) {
	raw, err := shape.Marshal(body)
	if err != nil { // a mistake of ours; it must not end in half an answer
		status = http.StatusInternalServerError
		raw = []byte(`{"error":{"kind":"internal","what":"the answer cannot be written as JSON"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(raw, '\n'))
}
