package s3

import (
	"net/url"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// DefaultRegion is the region that is signed for where nobody names one; most stores that are not Amazon's take it.
const DefaultRegion = "us-east-1"

// MaxKey is the longest key of an object, in bytes: S3's limit.
const MaxKey = 1024

// Place is an object in a store, or with a Key that is empty or ends in "/" what lies below it.
type Place struct {
	Endpoint string // scheme://host[:port]
	Region   string
	Bucket   string
	Key      string // not escaped, without a leading "/"
}

// Defaults are for what the text of a place leaves open; what they leave open is Amazon's.
type Defaults struct {
	Endpoint string
	Region   string
}

const (
	bucketName = fleet.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$`)
	regionName = fleet.Pattern(`^[a-z0-9-]{1,63}$`)
	// Amazon's hosts, with the bucket before them or in the path.
	amazonHost = fleet.Pattern(`^(?:(.+)\.)?s3(?:[.-]([a-z0-9-]+))?(\.amazonaws\.com(?:\.cn)?)$`)
)

// Parse reads s3://BUCKET/KEY, which takes ?endpoint=URL and &region=NAME, or the https URL of an object: at Amazon's hosts
// or with the bucket first in the path. Errors are fleet.Invalid and repeat no query.
func Parse(text string, d Defaults) (Place, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Place{}, fleet.Errorf(fleet.Invalid, "the S3 path is no URL").Hinted("s3://BUCKET/KEY")
	}
	if u.User != nil {
		return Place{}, fleet.Errorf(fleet.Invalid, "the S3 path holds a user name: credentials come from the environment or the shared credentials file")
	}
	var p Place
	switch u.Scheme {
	case "s3":
		p, err = fromBucket(u, d)
	case "http", "https":
		p, err = fromURL(u, d)
	default:
		err = fleet.Errorf(fleet.Invalid, "an S3 path begins with s3:// or https://").Hinted("s3://BUCKET/KEY")
	}
	if err != nil {
		return Place{}, err
	}
	return p, p.check()
}

func fromBucket(u *url.URL, d Defaults) (Place, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Place{}, fleet.Errorf(fleet.Invalid, "the part of the S3 path behind ? cannot be read").Hinted("s3://BUCKET/KEY?endpoint=https://HOST:PORT&region=NAME")
	}
	for name := range q {
		if name != "endpoint" && name != "region" {
			return Place{}, fleet.Errorf(fleet.Invalid, "an S3 path takes endpoint and region behind ?, not %q", name)
		}
	}
	p := Place{Bucket: u.Host, Key: strings.TrimPrefix(u.Path, "/")}
	p.Region = first(q.Get("region"), d.Region, DefaultRegion)
	p.Endpoint, err = origin(first(q.Get("endpoint"), d.Endpoint, "https://s3."+p.Region+".amazonaws.com"))
	return p, err
}

func fromURL(u *url.URL, d Defaults) (Place, error) {
	if u.RawQuery != "" {
		return Place{}, fleet.Errorf(fleet.Invalid, "the URL of an S3 object has nothing behind ?").Hinted("a presigned URL is downloaded with the source type HTTP")
	}
	path := strings.TrimPrefix(u.Path, "/")
	if m := amazonHost.FindStringSubmatch(u.Hostname()); m != nil && u.Port() == "" {
		p := Place{Region: first(m[2], d.Region, DefaultRegion)}
		p.Endpoint = "https://s3." + p.Region + m[3]
		if p.Bucket, p.Key = m[1], path; p.Bucket == "" {
			p.Bucket, p.Key, _ = strings.Cut(path, "/")
		}
		return p, nil
	}
	p := Place{Region: first(d.Region, DefaultRegion)}
	p.Bucket, p.Key, _ = strings.Cut(path, "/")
	var err error
	p.Endpoint, err = origin(u.Scheme + "://" + u.Host)
	return p, err
}

// origin takes scheme, host and port of an endpoint and refuses the rest: a path there would be signed away silently.
func origin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return "", fleet.Errorf(fleet.Invalid, "the S3 endpoint is no http or https URL").Hinted("https://HOST:PORT")
	case u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return "", fleet.Errorf(fleet.Invalid, "the S3 endpoint %s://%s is scheme, host and port, nothing more", u.Scheme, u.Host)
	}
	return u.Scheme + "://" + u.Host, nil
}

func (p Place) check() error {
	switch {
	case !bucketName.MatchString(p.Bucket):
		return fleet.Errorf(fleet.Invalid, "%q is no name of a bucket", p.Bucket).Hinted("s3://BUCKET/KEY")
	case len(p.Key) > MaxKey:
		return fleet.Errorf(fleet.Invalid, "the S3 key has %d bytes; at most %d are taken", len(p.Key), MaxKey)
	case !regionName.MatchString(p.Region):
		return fleet.Errorf(fleet.Invalid, "%q is no region", p.Region)
	}
	return nil
}

// Encrypted reports whether requests go over TLS.
func (p Place) Encrypted() bool { return strings.HasPrefix(p.Endpoint, "https://") }

// Below returns the place of a key below this one.
func (p Place) Below(key string) Place {
	if p.Key != "" && !strings.HasSuffix(p.Key, "/") {
		p.Key += "/"
	}
	p.Key += key
	return p
}

// String returns the place for people: s3://BUCKET/KEY.
func (p Place) String() string { return "s3://" + p.Bucket + "/" + p.Key }

// url returns where the object is asked for. The key is escaped as signatures want it: all but letters, digits and -._~/.
func (p Place) url(query string) (*url.URL, error) {
	u, err := url.Parse(p.Endpoint)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "the S3 endpoint is no URL")
	}
	u.Path, u.RawPath = "/"+p.Bucket+"/"+p.Key, "/"+escape(p.Bucket)+"/"+escape(p.Key)
	u.RawQuery = query
	return u, nil
}

func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			out.WriteByte(c)
		default:
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
