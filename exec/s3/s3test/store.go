// Package s3test is a store for tests that speaks as much of S3 as package s3 asks for, and verifies every signature by
// computing it anew, with no code in common with who made it.
//
// It owns objects in memory and a list of what was asked; it is no store for anything else.
package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the store takes.
const (
	KeyID  = "AKIATESTTESTTESTTEST"
	Secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	Region = "fleet-1"
)

// Store is a server on loopback with buckets in memory.
type Store struct {
	URL string // of its endpoint

	mu      sync.Mutex
	session string
	public  bool
	objects map[string][]byte // BUCKET/KEY
	fail    []int             // statuses for the next requests
	cut     int               // bytes after which the next body of a GET breaks off; 0: none does
	page    int
	asked   []string
}

// New starts a store that ends with the test.
func New(t *testing.T) *Store {
	t.Helper()
	s := &Store{objects: map[string][]byte{}, page: 1000}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Env returns the environment by which clients find the store and its keys.
func (s *Store) Env() []string {
	return []string{"AWS_ENDPOINT_URL=" + s.URL, "AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=" + KeyID, "AWS_SECRET_ACCESS_KEY=" + Secret}
}

// Put keeps an object: path is BUCKET/KEY.
func (s *Store) Put(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = data
}

// Object returns a kept object.
func (s *Store) Object(path string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[path]
	return data, ok
}

// Public lets everybody read.
func (s *Store) Public() { s.set(func() { s.public = true }) }

// Session demands a session token.
func (s *Store) Session(token string) { s.set(func() { s.session = token }) }

// Fail answers the next requests with these statuses.
func (s *Store) Fail(statuses ...int) { s.set(func() { s.fail = statuses }) }

// Cut breaks off the next body that it sends after n bytes.
func (s *Store) Cut(n int) { s.set(func() { s.cut = n }) }

// Page makes listings of at most n objects a page.
func (s *Store) Page(n int) { s.set(func() { s.page = n }) }

// Asked returns what was asked so far: "METHOD PATH STATUS".
func (s *Store) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *Store) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// ServeHTTP answers one request.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.answer(w, r, data, err)
	s.asked = append(s.asked, fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, status))
}

func (s *Store) answer(w http.ResponseWriter, r *http.Request, data []byte, err error) int {
	if len(s.fail) > 0 {
		status := s.fail[0]
		s.fail = s.fail[1:]
		return refuse(w, status, "SlowDown", "Please reduce\nyour request rate.")
	}
	if err != nil {
		return refuse(w, http.StatusBadRequest, "IncompleteBody", err.Error())
	}
	if why := s.verify(r, data); why != "" && !(s.public && r.Method == http.MethodGet && r.Header.Get("Authorization") == "") {
		return refuse(w, http.StatusForbidden, "SignatureDoesNotMatch", why)
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodPut:
		if r.ContentLength < 0 {
			return refuse(w, http.StatusLengthRequired, "MissingContentLength", "a length is needed")
		}
		s.objects[path] = data
		return http.StatusOK
	case r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		return s.list(w, strings.TrimSuffix(path, "/"), r.URL.Query())
	case r.Method == http.MethodGet:
		return s.get(w, path)
	}
	return refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
}

func (s *Store) get(w http.ResponseWriter, path string) int {
	data, ok := s.objects[path]
	if !ok {
		return refuse(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if n := s.cut; n > 0 && n < len(data) {
		s.cut = 0
		data = data[:n] // the server closes a connection whose body is short
	}
	w.Write(data)
	return http.StatusOK
}

func (s *Store) list(w http.ResponseWriter, bucket string, q url.Values) int {
	type item struct {
		Key  string
		Size int
	}
	var page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Contents              []item
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
	}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		key, ok := strings.CutPrefix(path, bucket+"/")
		if !ok || !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		if len(page.Contents) == s.page {
			page.IsTruncated, page.NextContinuationToken = true, page.Contents[s.page-1].Key
			break
		}
		page.Contents = append(page.Contents, item{key, len(s.objects[path])})
	}
	xml.NewEncoder(w).Encode(page)
	return http.StatusOK
}

func refuse(w http.ResponseWriter, status int, code, message string) int {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
	return status
}

// verify returns why a request is not signed as it must be, or "".
func (s *Store) verify(r *http.Request, data []byte) string {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "no signature"
	}
	parts := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		parts[k] = v
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return "the time is wrong"
	}
	scope := stamp[:8] + "/" + Region + "/s3/aws4_request"
	if parts["Credential"] != KeyID+"/"+scope {
		return "the credential is not " + KeyID + "/" + scope
	}
	sum := sha256.Sum256(data)
	if r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) {
		return "the body is not what was signed"
	}
	if s.session != r.Header.Get("X-Amz-Security-Token") {
		return "the session token is wrong"
	}
	signed := strings.Split(parts["SignedHeaders"], ";")
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(signed, name) {
			return name + " is not signed"
		}
	}
	if !slices.Contains(signed, "host") || !slices.IsSorted(signed) {
		return "host is not signed, or the headers are out of order"
	}
	want := signature(stamp, scope, canonical(r, signed))
	if subtle.ConstantTimeCompare([]byte(want), []byte(parts["Signature"])) != 1 {
		return "the signature is wrong"
	}
	return ""
}

func canonical(r *http.Request, signed []string) string {
	lines := []string{r.Method, encode(r.URL.Path, "/"), canonicalQuery(r.URL.Query())}
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		lines = append(lines, name+":"+strings.Join(strings.Fields(value), " "))
	}
	return strings.Join(append(lines, "", strings.Join(signed, ";"), r.Header.Get("X-Amz-Content-Sha256")), "\n")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for k, values := range q {
		for _, v := range values {
			pairs = append(pairs, encode(k, "")+"="+encode(v, ""))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// encode escapes all but the unreserved characters of RFC 3986 and those in keep.
func encode(s, keep string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"+keep, rune(c)) {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

func signature(stamp, scope, request string) string {
	sum := sha256.Sum256([]byte(request))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
