package sandbox

import (
	"fmt"
	"net/http"
	"strings"
)

// problem is one of Clerk's errors.
type problem struct {
	status  int
	code    string
	message string
	long    string
	meta    map[string]any
}

// body returns the problem in the form that Clerk returns.
func (p *problem) body(trace string) any {
	entry := map[string]any{"message": p.message, "long_message": p.long, "code": p.code}
	if p.long == "" {
		entry["long_message"] = p.message
	}
	if p.meta != nil {
		entry["meta"] = p.meta
	}
	return map[string]any{"errors": []any{entry}, "clerk_trace_id": trace}
}

// faultCodes are the codes that Clerk returns with a status, for faults without a code.
var faultCodes = map[int]string{
	http.StatusBadRequest:          "request_body_invalid",
	http.StatusUnauthorized:        "clerk_key_invalid",
	http.StatusForbidden:           "quota_exceeded",
	http.StatusNotFound:            "resource_not_found",
	http.StatusConflict:            "resource_locked",
	http.StatusUnprocessableEntity: "form_param_value_invalid",
	http.StatusTooManyRequests:     "too_many_requests",
}

func (f *Fault) problem() *problem {
	code := f.Code
	if code == "" {
		code = faultCodes[f.Status]
	}
	if code == "" {
		code = "internal_clerk_error"
	}
	return &problem{status: f.Status, code: code, message: http.StatusText(f.Status)}
}

func paramMeta(name string) map[string]any { return map[string]any{"param_name": name} }

func formatInvalid(param string) *problem {
	return &problem{422, "form_param_format_invalid", "is invalid", param + " must be a valid " + strings.ReplaceAll(param, "_", " ") + ".", paramMeta(param)}
}

func paramMissing(param string) *problem {
	return &problem{422, "form_param_missing", "is missing", param + " must be included.", paramMeta(param)}
}

func paramUnknown(param string) *problem {
	return &problem{422, "form_param_unknown", "is unknown", param + " is not a valid parameter for this request.", paramMeta(param)}
}

func valueInvalid(param string) *problem {
	return &problem{422, "form_param_value_invalid", "is invalid", "The value of " + param + " is not accepted.", paramMeta(param)}
}

func tooLarge(param string, limit int) *problem {
	return &problem{422, "form_param_exceeds_allowed_size", "exceeds the allowed size", fmt.Sprintf("%s must not exceed %d bytes.", param, limit), paramMeta(param)}
}

func bodyInvalid() *problem {
	return &problem{status: 400, code: "request_body_invalid", message: "Request body invalid", long: "The request body is invalid. Please consult the API documentation for more information."}
}

func bulkSizeExceeded() *problem {
	return &problem{status: 400, code: "bulk_size_exceeded", message: "Bulk size exceeded", long: "The size of the bulk operation must not exceed 10."}
}

func keyInvalid() *problem {
	return &problem{status: 401, code: "clerk_key_invalid", message: "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct."}
}

func notFound() *problem {
	return &problem{status: 404, code: "resource_not_found", message: "not found", long: "No such resource was found."}
}

func throttled() *problem {
	return &problem{status: 429, code: "too_many_requests", message: "Too many requests. Please try again in a bit."}
}

func quotaExceeded(code string) *problem {
	return &problem{status: 403, code: code, message: "quota exceeded", long: "You have reached your limit of users."}
}

func notSupported() *problem {
	return &problem{status: 400, code: "invitations_not_supported", message: "invitations are not supported", long: "Invitations are only supported on instances that accept email addresses."}
}

// identifierExists names no address: Clerk's error contains only the parameter.
func identifierExists() *problem {
	return &problem{422, "form_identifier_exists", "That email address is taken. Please try another.", "", paramMeta("email_address")}
}

func duplicateRecord(offenders []string) *problem {
	p := &problem{status: 400, code: "duplicate_record", message: "duplicate invitation", long: "There are already pending invitations for some of the email addresses."}
	if offenders != nil {
		p.long = "There are already pending invitations for the following email addresses: " + strings.Join(offenders, ", ")
		p.meta = map[string]any{"email_addresses": offenders}
	}
	return p
}

func notAllowed(offenders []string) *problem {
	p := &problem{status: 403, code: "not_allowed_access", message: "Access not allowed.", long: "Some of the identifiers are not allowed to access this application."}
	if offenders != nil {
		p.long = strings.Join(offenders, ", ") + " is not allowed to access this application."
		p.meta = map[string]any{"identifiers": offenders}
	}
	return p
}

func alreadyAccepted() *problem {
	return &problem{status: 400, code: "invitation_already_accepted", message: "Invitation is already accepted, therefore it cannot be revoked."}
}

func alreadyRevoked() *problem {
	return &problem{status: 400, code: "invitation_already_revoked", message: "Invitation is already revoked."}
}
