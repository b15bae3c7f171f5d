package clerk

import "net/http"

// Class says what an answer means, and with it what it proves about whether
// Clerk did anything. For a bulk call "the person" is whoever the answer names
// in Offenders; whether Clerk did anything for the others of a refused bulk call
// is not known from the answer, unless the class says that nothing was done.
type Class int

const (
	// Lost: no answer, or none that Clerk itself is known to have given: cut, timed
	// out, redirected, a proxy's page, a success whose body can't be read.
	// Whether Clerk did anything is unknown. It is the zero value: an answer that
	// nobody filled in proves nothing.
	Lost Class = iota
	// NotSent: not one byte of the request was written to the network, or it could not
	// be made. Nothing was done.
	NotSent
	// Success: Clerk did what was asked, for those whose invitations the answer holds.
	Success
	// Exists: a pending invitation stands in the way (duplicate_record). This request
	// made nothing for the person; an earlier one may have.
	Exists
	// UserExists: the address belongs to a user, or to a member of the organization
	// (form_identifier_exists, already_a_member_in_organization). Made nothing for
	// the person.
	UserExists
	// Rejected: Clerk will not take this person or these parameters, and would say the
	// same again. Made nothing for the person.
	Rejected
	// Throttled: a limit was met (429). Nothing was done; RetryAfter says when to go on,
	// if Clerk did.
	Throttled
	// Unauthorized: the key is not good (401). Nothing was done.
	Unauthorized
	// Stopped: the instance takes no more, whoever the person is: a quota, a setting, a
	// call that it does not know. A single call made nothing; of a bulk call that met
	// a quota it is not known.
	Stopped
	// BadCall: the form of the call was refused, by Clerk (request_body_invalid,
	// bulk_size_exceeded) or by this package before it was sent. Nothing was done.
	BadCall
	// Transient: Clerk failed, or others were in the way (5xx, 409). Whether it did
	// anything is unknown.
	Transient
	// Gone: a revoke met no pending invitation of this id (resource_not_found,
	// organization_invitation_not_pending). Nothing was done; a read tells why.
	Gone
	// AlreadyRevoked: a revoke met one that had been revoked. Nothing was done.
	AlreadyRevoked
	// AlreadyAccepted: a revoke met one that had been accepted. Nothing was done.
	AlreadyAccepted
)

var classNames = [...]string{
	Lost: "lost", NotSent: "not_sent", Success: "success", Exists: "exists", UserExists: "user_exists",
	Rejected: "rejected", Throttled: "throttled", Unauthorized: "unauthorized", Stopped: "stopped",
	BadCall: "bad_call", Transient: "transient", Gone: "gone", AlreadyRevoked: "already_revoked",
	AlreadyAccepted: "already_accepted",
}

// String is the class's name in lower case, as in "user_exists".
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return "unknown"
	}
	return classNames[c]
}

// codeClasses decides the 4xx answers whose status alone does not. The codes are
// those of Clerk's published table of errors.
var codeClasses = map[string]Class{
	"duplicate_record":                 Exists,
	"form_identifier_exists":           UserExists,
	"already_a_member_in_organization": UserExists,
	"not_allowed_access":               Rejected,
	"request_body_invalid":             BadCall,
	"bulk_size_exceeded":               BadCall,
	"invitations_not_supported":        Stopped,
	"user_quota_exceeded":              Stopped,
	"quota_exceeded":                   Stopped,
	"insufficient_seats":               Stopped,
}

var revokeClasses = map[string]Class{
	"invitation_already_accepted":         AlreadyAccepted,
	"invitation_already_revoked":          AlreadyRevoked,
	"resource_not_found":                  Gone,
	"organization_invitation_not_pending": Gone,
}

// classify decides an answer that is no success. code is Clerk's first error
// code; empty where the body was not Clerk's, so that somebody between may have
// answered in Clerk's stead. Even then 401 and 429 prove that nothing was done.
func classify(call, code string, status int) Class {
	switch {
	case status == http.StatusTooManyRequests:
		return Throttled
	case status == http.StatusUnauthorized:
		return Unauthorized
	case code == "" || status < 400:
		return Lost
	case status >= 500 || status == http.StatusConflict:
		return Transient
	}
	if call == callRevoke {
		if class, ok := revokeClasses[code]; ok {
			return class
		}
	}
	if class, ok := codeClasses[code]; ok {
		return class
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return Rejected
	case http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return Stopped
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnsupportedMediaType:
		return BadCall
	}
	// A 4xx that Clerk does not publish says nothing that can be relied on.
	return Transient
}
