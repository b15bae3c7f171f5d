package clerk

import (
	"net/http"
	"slices"
)

// Class says what an answer means, and what it proves about whether Clerk did anything. For a bulk
// call, "the person" below means the people that the answer names in Offenders. For the other
// people of a refused bulk call the answer does not say whether Clerk did anything, unless the
// class says that nothing was done.
type Class int

const (
	// Lost means that there is no answer, or none that is known to be Clerk's own: it was cut off,
	// timed out, redirected, a proxy's page, or a success with a body that can't be read. Whether
	// Clerk did anything is unknown. Lost is the zero value, so an answer that was never filled in
	// proves nothing.
	Lost Class = iota
	// NotSent means that no byte of the request was written to the network, or that the request
	// could not be built. Nothing was done.
	NotSent
	// Success means that Clerk did what was asked, for the people whose invitations are in the
	// answer.
	Success
	// Exists means that a pending invitation blocks this one (duplicate_record). This request made
	// nothing for the person. An earlier one may have.
	Exists
	// UserExists means that the address belongs to a user or to a member of the organization
	// (form_identifier_exists, already_a_member_in_organization). The request made nothing for the
	// person.
	UserExists
	// Rejected means that Clerk refuses this person or these parameters, and would refuse them
	// again. It includes unknown codes that name people. The request made nothing for the person.
	Rejected
	// Throttled means that a limit was reached (429). Nothing was done. RetryAfter says when to
	// resume, if Clerk told it.
	Throttled
	// Unauthorized means that the key is invalid or may not make this call. Nothing was done.
	Unauthorized
	// Stopped means that Clerk would refuse every person, because of the instance or of how the
	// program calls it: a quota, a setting, an unknown endpoint. A single call made nothing. If a
	// bulk call met a quota, it is unknown whether it made something.
	Stopped
	// BadCall means that the form of the call was refused, either by Clerk (a bulk call that it
	// can't read or that is too large; smaller calls may pass) or by this package before sending.
	// Nothing was done.
	BadCall
	// Transient means that Clerk failed or was busy: 5xx, 409, or an unknown code with 408, 423 or
	// 425. Whether Clerk did anything is unknown.
	Transient
	// Gone means that a revoke found no pending invitation with this id (resource_not_found,
	// organization_invitation_not_pending). Nothing was done. A read finds out why.
	Gone
	// AlreadyRevoked means that the invitation was revoked before. This revoke did nothing.
	AlreadyRevoked
	// AlreadyAccepted means that the invitation was accepted before. This revoke did nothing.
	AlreadyAccepted
	// Unexplained means that Clerk refused with a code that does not name a person and that is
	// unknown here or has no definite meaning. A single call made nothing. For a bulk call that is
	// unknown.
	Unexplained
)

var classNames = [...]string{
	Lost: "lost", NotSent: "not_sent", Success: "success", Exists: "exists", UserExists: "user_exists",
	Rejected: "rejected", Throttled: "throttled", Unauthorized: "unauthorized", Stopped: "stopped",
	BadCall: "bad_call", Transient: "transient", Gone: "gone", AlreadyRevoked: "already_revoked",
	AlreadyAccepted: "already_accepted", Unexplained: "unexplained",
}

// String returns the class's name in lower case, such as "user_exists".
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return "unknown"
	}
	return classNames[c]
}

// Subject is what a refusal is about.
type Subject int

const (
	// Unknown means that the code is not in the table.
	Unknown Subject = iota
	// Person is the invited person, whatever the other parameters are.
	Person
	// Parameters are the values that the row gave: address, metadata, redirect URL, expiry,
	// template.
	Parameters
	// Pending is the invitation that should be revoked.
	Pending
	// Call is how this program calls Clerk.
	Call
	// Instance is a setting of the instance or a quota of its plan.
	Instance
	// Key is the secret key.
	Key
	// Limit is a rate limit.
	Limit
	// Fault is an error of Clerk itself.
	Fault
)

// refusal is the meaning of one of Clerk's error codes.
type refusal struct {
	about Subject
	class Class // for the calls that the subject concerns
	// alone is the class for a call about one person. If it is Lost (zero), class applies.
	alone Class
	// counted marks a quota. A bulk call may reach it halfway. Any other Stopped bulk call did
	// nothing.
	counted bool
	remedy  string // what a person can do about it; empty: see Remedy
}

// refusals are the error codes that this package's calls can get, from Clerk's published table of
// errors (August 2026). They include a few that the table lists only for Clerk's frontend API but
// that would mean the same here. A code has the same class with any status below 500, except 401,
// 409 and 429, which decide alone: see classify.
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

// classify returns the class of an answer that is not a success. code is Clerk's first error code.
// It is empty if the body is not Clerk's, since then something between may have answered. Even then
// 401 and 429 prove that nothing was done. people is how many people a create or bulk call was for.
// named says that the refusal names people.
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
			return Stopped // the endpoint itself does not exist
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

// later are the statuses below 500 that, by the definition of HTTP, mean that the same request may
// succeed at another time.
var later = []int{http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly}

// NamesNobody reports what a refusal of a create or bulk call says about its people if it names
// none of them. somebody means that one of them may be the reason. unexplained means that the class
// is [Unexplained]. Both are false if the refusal has nothing to do with people.
func NamesNobody(code string, status int) (somebody, unexplained bool) {
	switch classify(callBulk, code, status, 2, false) {
	case Exists, UserExists, Rejected:
		return true, false
	case Unexplained:
		return true, true
	case BadCall: // each person goes alone next; for one person it may be unexplained
		return true, refusals[code].alone == Unexplained
	}
	return false, false
}

// Remedy returns what a person can do about a refusal that stops a batch: an instruction without a
// full stop.
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
