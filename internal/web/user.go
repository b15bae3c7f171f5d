package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Role is what somebody may do.
type Role string

// The roles. An operator may do all that an auditor may.
const (
	Auditor  Role = "auditor"  // reads everything, addresses too
	Operator Role = "operator" // uploads, starts, pauses, cancels
)

// May reports whether a role allows what another is needed for.
func (r Role) May(needed Role) bool { return r == Operator || r == needed }

// Valid reports whether there is such a role.
func (r Role) Valid() bool { return r == Auditor || r == Operator }

// User is somebody who signs in with a password.
type User struct {
	Name string // also the actor of what they do
	Role Role
	Hash string // bcrypt's, with its cost and salt
}

// String is the user's line in a file of users.
func (u User) String() string { return u.Name + ":" + string(u.Role) + ":" + u.Hash }

// proof identifies the user and their password in a session. The role is left out:
// a session has the role that the user has now.
func (u User) proof() []byte { return hashOf(u.Name + ":" + u.Hash) }

// Passwords are hashed with bcrypt, which takes 72 bytes and ignores the rest:
// longer ones are refused. A hash takes a tenth of a second or so.
const (
	hashCost    = 11
	minPassword = 10 // characters
	maxPassword = 72 // bytes
)

var userName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,100}$`)

// NewUser makes a user of a password.
func NewUser(name string, role Role, password string) (User, error) {
	return newUser(name, role, password, hashCost)
}

func newUser(name string, role Role, password string, cost int) (User, error) {
	switch {
	case !userName.MatchString(name):
		return User{}, errors.New("a user's name has letters, digits and . _ @ + - in it, and no more than 100 of them")
	case !role.Valid():
		return User{}, fmt.Errorf("%q is no role: take auditor or operator", role)
	case len([]rune(password)) < minPassword:
		return User{}, fmt.Errorf("a password has %d characters or more", minPassword)
	case len(password) > maxPassword:
		return User{}, fmt.Errorf("a password has %d bytes at most", maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return User{}, fmt.Errorf("hash the password: %w", err)
	}
	return User{Name: name, Role: role, Hash: string(hash)}, nil
}

// ParseUsers reads users, NAME:ROLE:HASH each, apart by spaces or line breaks; a
// line that begins with # is a comment.
func ParseUsers(r io.Reader) ([]User, error) {
	var users []User
	seen := map[string]bool{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if strings.HasPrefix(strings.TrimSpace(lines.Text()), "#") {
			continue
		}
		for _, field := range strings.Fields(lines.Text()) {
			u, err := parseUser(field)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if seen[u.Name] {
				return nil, fmt.Errorf("line %d: the user %s is there twice", n, u.Name)
			}
			seen[u.Name] = true
			users = append(users, u)
		}
	}
	return users, lines.Err()
}

func parseUser(field string) (User, error) {
	parts := strings.SplitN(field, ":", 3)
	if len(parts) != 3 {
		return User{}, errors.New("a user is written NAME:ROLE:HASH; bulkinvite user NAME makes one")
	}
	u := User{Name: parts[0], Role: Role(parts[1]), Hash: parts[2]}
	cost, err := bcrypt.Cost([]byte(u.Hash))
	switch {
	case !userName.MatchString(u.Name):
		return u, errors.New("what stands before the first colon is no user's name")
	case !u.Role.Valid():
		return u, fmt.Errorf("user %s: the role is auditor or operator", u.Name)
	case err != nil || cost > 15:
		return u, fmt.Errorf("user %s: what follows the role is no bcrypt hash of a cost up to 15; bulkinvite user NAME makes one", u.Name)
	}
	return u, nil
}

// unknownUser is the hash that the password of an unknown name is compared with, so that it takes as long as one that
// is known. It is of random bytes that were thrown away.
func unknownUser(cost int) string {
	return fmt.Sprintf("$2a$%02d$Kpos/eEQk/GX5.E.SeilMOSP1dkKXf.7p/WQ58DC31xrU1AiJxFhq", cost)
}
