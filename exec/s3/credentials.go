package s3

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxCredentialsFile bounds what is read of the shared credentials file, in bytes.
const maxCredentialsFile = 1 << 20

// Credentials sign requests; the zero value asks anonymously.
type Credentials struct {
	KeyID   string
	Secret  string
	Session string // of temporary keys; else empty
}

// String keeps secrets out of whatever prints credentials.
func (c Credentials) String() string { return "credentials " + c.KeyID }

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

func (c Credentials) aws() aws.Credentials {
	return aws.Credentials{AccessKeyID: c.KeyID, SecretAccessKey: c.Secret, SessionToken: c.Session}
}

// FindDefaults reads from the environment what the AWS tools read: AWS_ENDPOINT_URL_S3 before AWS_ENDPOINT_URL, and
// AWS_REGION before AWS_DEFAULT_REGION.
func FindDefaults(getenv func(string) string) Defaults {
	return Defaults{Endpoint: first(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")), Region: first(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))}
}

// FindCredentials returns those of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), else those
// of AWS_PROFILE, or of the profile default, in the shared credentials file (AWS_SHARED_CREDENTIALS_FILE, or
// ~/.aws/credentials), else none. A profile that was asked for and is not there is an error.
func FindCredentials(getenv func(string) string) (Credentials, error) {
	c := Credentials{KeyID: getenv("AWS_ACCESS_KEY_ID"), Secret: getenv("AWS_SECRET_ACCESS_KEY"), Session: getenv("AWS_SESSION_TOKEN")}
	if c.KeyID != "" && c.Secret != "" {
		return c, nil
	}
	if c.KeyID != "" || c.Secret != "" {
		return Credentials{}, fleet.Errorf(fleet.Invalid, "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")
	}
	path, profile := getenv("AWS_SHARED_CREDENTIALS_FILE"), getenv("AWS_PROFILE")
	asked := path != "" || profile != ""
	if path == "" {
		home := getenv("HOME")
		if home == "" {
			return Credentials{}, nil
		}
		path = filepath.Join(home, ".aws", "credentials")
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
		return Credentials{}, nil
	case err != nil:
		return Credentials{}, fleet.Errorf(fleet.Unavailable, "cannot read the AWS credentials file: %w", err)
	case len(text) > maxCredentialsFile:
		return Credentials{}, fleet.Errorf(fleet.Exhausted, "%s has %d bytes; a credentials file has at most %d", path, len(text), maxCredentialsFile)
	}
	c, ok := parseCredentials(string(text), first(profile, "default"))
	if !ok && profile != "" {
		return Credentials{}, fleet.Errorf(fleet.NotFound, "%s has no keys for the profile %q", path, profile)
	}
	return c, nil
}

// parseCredentials reads one profile of a credentials file: INI, with # and ; for comments.
func parseCredentials(text, profile string) (Credentials, bool) {
	var c Credentials
	here := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if strings.HasPrefix(line, "[") {
			here = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if value = strings.TrimSpace(value); !here {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "aws_access_key_id":
			c.KeyID = value
		case "aws_secret_access_key":
			c.Secret = value
		case "aws_session_token":
			c.Session = value
		}
	}
	if c.KeyID == "" || c.Secret == "" {
		return Credentials{}, false
	}
	return c, true
}
