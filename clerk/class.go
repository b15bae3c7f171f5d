package clerk

import (
	"net/http"
	"slices"
)

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
	// Unauthorized: the key is not good, or may not make this call. Nothing was done.
	Unauthorized
	// Stopped: Clerk refuses everybody, for what the instance is or how it is called:
	// a quota, a setting, a call that it does not know. A single call made nothing; of
	// a bulk call that met a quota that is not known.
	Stopped
	// BadCall: the form of the call was refused, by Clerk (a bulk call that it can't
	// read or finds too large; smaller calls may pass) or by this package before it
	// was sent. Nothing was done.
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
	// Unexplained: Clerk refused with a code that says nothing of a person, and that
	// this program does not know or that has no definite meaning. A single call made
	// nothing; of a bulk call that is not known.
	Unexplained
)

var classNames = [...]string{
	Lost: "lost", NotSent: "not_sent", Success: "success", Exists: "exists", UserExists: "user_exists",
	Rejected: "rejected", Throttled: "throttled", Unauthorized: "unauthorized", Stopped: "stopped",
	BadCall: "bad_call", Transient: "transient", Gone: "gone", AlreadyRevoked: "already_revoked",
	AlreadyAccepted: "already_accepted", Unexplained: "unexplained",
}

// String is the class's name in lower case, as in "user_exists".
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return "unknown"
	}
	return classNames[c]
}

// Subject says what a refusal is about.
type Subject int

const (
	// Unknown: the code is not in the table.
	Unknown Subject = iota
	// Person: the invited person, whatever else the call says.
	Person
	// Parameters: what the row gave: address, metadata, redirect URL, expiry, template.
	Parameters
	// Pending: the invitation that was to be revoked.
	Pending
	// Call: how this program calls Clerk.
	Call
	// Instance: a setting of the instance, or a quota of its plan.
	Instance
	// Key: the secret key.
	Key
	// Limit: a rate limit.
	Limit
	// Fault: Clerk itself.
	Fault
)

// refusal is what one error code of Clerk's means.
type refusal struct {
	about Subject
	class Class // for the calls that Subject concerns
	// alone is the class of a call that is about one person; Lost (zero): as class.
	alone Class
	// counted: a quota, which a bulk call may meet halfway. Without it a Stopped bulk
	// call did nothing either.
	counted bool
	remedy  string // what a person does about it; empty: what the subject says
}

// refusals are the codes that the calls of this package can be answered with, by
// Clerk's published table of errors (August 2026), and a few that it lists for its
// frontend only but that would mean the same here. A code has the same class
// whatever status below 500 it comes with. The exceptions are 401, 409 and 429, which decide
// by themselves: see classify.
var refusals = map[string]refusal{
	"duplicate_record":                 {about: Person, class: Exists},
	"form_identifier_exists":           {about: Person, class: UserExists},
	"already_a_member_in_organization": {about: Person, class: UserExists},
	"not_allowed_access":               {about: Person, class: Rejected},
	"form_email_address_blocked":       {about: Person, class: Rejected},

	"form_param_format_invalid":               {about: Parameters, class: Rejected},
	"form_param_missing":                      {about: Parameters, class: Rejected},
	"form_param_unknown":                      {about: Parameters, class: Rejected},
	"form_param_value_invalid":                {about: Parameters, class: Rejected},
	"form_param_exceeds_allowed_size":         {about: Parameters, class: Rejected},
	"form_param_nil":                          {about: Parameters, class: Rejected},
	"form_param_type_invalid":                 {about: Parameters, class: Rejected},
	"form_param_duplicate":                    {about: Parameters, class: Rejected},
	"form_param_max_length_exceeded":          {about: Parameters, class: Rejected},
	"form_param_min_length_exceeded":          {about: Parameters, class: Rejected},
	"form_param_value_too_large":              {about: Parameters, class: Rejected},
	"form_param_value_conflict":               {about: Parameters, class: Rejected},
	"form_param_array_size_exceeded":          {about: Parameters, class: Rejected},
	"form_param_deprecated":                   {about: Parameters, class: Rejected},
	"form_param_invalid_date":                 {about: Parameters, class: Rejected},
	"form_conditional_param_disallowed":       {about: Parameters, class: Rejected},
	"form_conditional_param_missing":          {about: Parameters, class: Rejected},
	"form_conditional_param_value_disallowed": {about: Parameters, class: Rejected},
	"form_disallow_future_date":               {about: Parameters, class: Rejected},
	"form_resource_not_found":                 {about: Parameters, class: Rejected},
	"form_invalid_origin":                     {about: Parameters, class: Rejected},
	"insecure_url":                            {about: Parameters, class: Rejected},

	"invitation_already_accepted":         {about: Pending, class: AlreadyAccepted},
	"invitation_already_revoked":          {about: Pending, class: AlreadyRevoked},
	"revoked_invitation":                  {about: Pending, class: AlreadyRevoked},
	"organization_invitation_not_pending": {about: Pending, class: Gone},
	"resource_not_found":                  {about: Pending, class: Gone},

	"request_body_invalid":         {about: Call, class: BadCall, alone: Rejected},
	"bulk_size_exceeded":           {about: Call, class: BadCall, alone: Unexplained},
	"request_body_too_large":       {about: Call, class: BadCall, alone: Unexplained},
	"bad_request":                  {about: Call, class: Unexplained},
	"malformed_request_parameters": {about: Call, class: Unexplained},
	"missing_query_parameter":      {about: Call, class: Unexplained},
	"unsupported_content_type":     {about: Call, class: Stopped},
	"api_version_invalid":          {about: Call, class: Stopped},
	"operation_deprecated":         {about: Call, class: Stopped},
	"feature_not_implemented":      {about: Call, class: Stopped},

	"invitations_not_supported": {about: Instance, class: Stopped,
		remedy: "Let the instance accept e-mail addresses in Clerk's dashboard"},
	"feature_requires_email_address_enabled": {about: Instance, class: Stopped,
		remedy: "Let the instance accept e-mail addresses in Clerk's dashboard"},
	"request_invalid_for_instance":           {about: Instance, class: Stopped},
	"request_invalid_for_environment":        {about: Instance, class: Stopped},
	"feature_not_enabled":                    {about: Instance, class: Stopped},
	"feature_requires_custom_domain":         {about: Instance, class: Stopped},
	"unsupported_subscription_plan_features": {about: Instance, class: Stopped},
	"breaks_instance_invariant":              {about: Instance, class: Stopped},
	"action_blocked":                         {about: Instance, class: Stopped, remedy: "Ask Clerk's support why it blocks this instance"},
	"requires_protect_check":                 {about: Instance, class: Stopped, remedy: "Ask Clerk's support why it blocks this instance"},
	"dev_monthly_email_limit_exceeded": {about: Instance, class: Stopped, counted: true,
		remedy: "This development instance has sent its e-mails of the month: wait for the next month, or use a production instance"},
	"user_quota_exceeded": {about: Instance, class: Stopped, counted: true, remedy: "Raise the plan's number of users at Clerk"},
	"quota_exceeded":      {about: Instance, class: Stopped, counted: true, remedy: "Raise the plan's quota at Clerk"},
	"insufficient_seats":  {about: Instance, class: Stopped, counted: true, remedy: "Add seats to the plan at Clerk"},

	"clerk_key_invalid":                      {about: Key, class: Unauthorized},
	"authorization_header_format_invalid":    {about: Key, class: Unauthorized},
	"authentication_invalid":                 {about: Key, class: Unauthorized},
	"could_not_authenticate_request":         {about: Key, class: Unauthorized},
	"authorization_invalid":                  {about: Key, class: Unauthorized},
	"authorization_missing_scopes":           {about: Key, class: Unauthorized},
	"platform_api_auth_strategy_not_allowed": {about: Key, class: Unauthorized},

	"too_many_requests": {about: Limit, class: Throttled},

	"internal_clerk_error": {about: Fault, class: Transient},
	"service_unavailable":  {about: Fault, class: Transient},
	"gateway_timeout":      {about: Fault, class: Transient},
	"resource_locked":      {about: Fault, class: Transient},
	"conflict":             {about: Fault, class: Transient},
}

// classify decides an answer that is no success. code is Clerk's first error
// code; empty where the body was not Clerk's, so that somebody between may have
// answered in Clerk's stead. Even then 401 and 429 prove that nothing was done.
// people is how many a create or bulk call was for; named says that the refusal
// names somebody.
func classify(call, code string, status, people int, named bool) Class {
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
	invites := call == callCreate || call == callBulk
	r, ok := refusals[code]
	switch {
	case !ok && named && invites:
		return Rejected
	case !ok && slices.Contains(later, status):
		return Transient
	case !ok:
		return Unexplained
	}
	switch r.about {
	case Person:
		if !invites {
			return Unexplained
		}
	case Parameters:
		if !invites && call != callUsers {
			return Unexplained
		}
	case Pending:
		if call != callRevoke && code == "resource_not_found" {
			return Stopped // what was called is not there
		}
		if call != callRevoke {
			return Unexplained
		}
	case Call:
		if r.alone != Lost && !invites {
			return Unexplained
		}
		if r.alone != Lost && people <= 1 {
			return r.alone
		}
	}
	return r.class
}

// later are the statuses below 500 by which HTTP itself says that the same request
// may succeed at another time.
var later = []int{http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly}

// NamesNobody reports what a create or bulk call's refusal by a code and a status
// says of its people where it names none of them: somebody, that one of them may be
// the reason; unexplained, that its class is [Unexplained]. Both are false for what
// has nothing to do with them.
func NamesNobody(code string, status int) (somebody, unexplained bool) {
	switch classify(callBulk, code, status, 2, false) {
	case Exists, UserExists, Rejected:
		return true, false
	case Unexplained:
		return true, true
	case BadCall: // each of its people goes alone; of one person it may be unexplained
		return true, refusals[code].alone == Unexplained
	}
	return false, false
}

// Remedy says what a person does about a refusal that stops a batch, as an
// instruction without a full stop.
func Remedy(code string) string {
	r := refusals[code]
	if r.remedy != "" {
		return r.remedy
	}
	switch r.about {
	case Instance:
		return "Change the instance's settings or plan at Clerk"
	case Call:
		return "Look for a newer version of bulkinvite, and report the code"
	case Key:
		return "Use a secret key of the instance that may call Clerk's Backend API"
	}
	return "Look the code up in Clerk's list of errors, and ask Clerk's support if that does not help"
}
