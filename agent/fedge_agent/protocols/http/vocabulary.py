# SPDX-License-Identifier: Apache-2.0
"""The names of members, the codes and the words by which systems report a refusal. Pure.

Names are without what systems differ in (`refusals.plain`): "errorCode", "error_code" and "ErrorCode" are "errorcode".
"""

from __future__ import annotations

import re

ERROR = ("error", "errors", "exception", "exctype", "exc")  # JSON-RPC, OData, GraphQL, Frappe, OSLC
ERROR_LIKE = re.compile(  # also members of a record, such as the error code of a machine
    r"err|err(or)?s?(code|no|num|number|msg|message|messages|text|alert|detail|details|description|list|title|string)"
    r"|exception(message|type|code)|fault(string|code|message)|(validation|field|form|business)errors?|fehler(meldung|code|text)?|erreurs?|errore|messaggioerrore"
)
TRUE = ("haserror", "haserrors", "iserror", "failed", "failure", "rejected", "denied", "unsuccessful")
COUNT = re.compile(
    r"(num|number|total|count)?(of)?(error|failure|failed|fault|reject|rejected|rejection|invalid)s?(count|total|rows|records)?"
)
CLOSED = (
    "maintenance",
    "maintenancemode",
    "inmaintenance",
    "readonly",
    "offline",
    "shuttingdown",
    "overloaded",
    "busy",
)
FALSE = ("success", "successful", "successfull", "succeeded", "issuccess", "issuccessful", "ok", "accepted", "result")
FALSE_UNLESS_RECORD = (  # of a record they may be states of its own
    "valid", "isvalid", "status", "created", "saved", "stored", "inserted", "processed", "received", "acknowledged",
    "ack", "done", "return", "response", "allowed",
)  # fmt: skip
FALSE_LOGIN = ("authenticated", "isauthenticated", "loggedin", "isloggedin", "authorized")
TO = ("redirect", "redirecturl", "redirectto", "location", "loginurl")
CODE = ("code", "status", "statuscode", "httpstatus", "httpstatuscode", "httpcode", "responsecode")  # as of HTTP
RETURN_CODE = ("returncode", "retcode", "resultcode", "errcode", "errno", "exitcode", "rtncode")  # 0 is a success
OUTCOME = (
    "status", "state", "result", "outcome", "type", "resultcode", "returncode", "ergebnis", "statut", "esito", "ack",
    "acknowledgement", "acknowledgment", "response", "reply", "verdict", "decision", "returnstatus", "resultstatus",
)  # fmt: skip
BAD_CODE = re.compile(r"(?i)err\w*|\w*(error|exception|failure)|-\d+")
MESSAGE = ("message", "msg", "detail", "errmsg", "errortext", "returntext", "statustext", "meldung", "nachricht")
TEXT = (*MESSAGE, "title", "text", "info", "description", "mensaje", "messaggio", "bericht")
MESSAGES = ("return", "messages", "message", "etreturn", "results", "details", "infos")
INSIDE = ("result", "response", "data", "d", "body", "output", "value", "results", "records")
RESULT = re.compile(r"\w*(result|response|return)")  # of a service: CreateOrderResult
ID = re.compile(
    r"(?!(request|correlation|trace|session|error|message)id$)\w*(id|key|number|num|order)|self|name|guid|href"
)

NOTHING = ("", "0", "none", "null", "false", "ok", "no error", "no errors", "noerror", "success", "s", "-", "n/a")
BAD_WORD = re.compile(
    r"(?i)\W*(err(or)?|fail(ed|ure)?|fault|fatal|abort(ed)?|reject(ed)?|denied|refused|invalid|not.?ok|nok|nack|ko|forbidden"
    r"|expired|unauthori[sz]ed|false|nak|ng|declined|unsuccessful|bad.request|unprocessable.\w+|internal.server.error|not.(found|valid|accepted|created|saved|stored|processed|allowed)|fehler|fehlgeschlagen|abgelehnt|ung(ü|ue)ltig|erreur|échec|echec|refusé|errore?"
    r"|fallito|rechazado|exception)\W*"
)
BAD_START = re.compile(
    r"(?i)\W*((an?|ein|une?|internal|server|system|unexpected|unknown|validation|database|sql|parse|login|fatal) )*"
    r"(error|errors|exception|fatal|failed|failure|fehler|erreur|échec|errore?|err)\b"
    r"(?! ?free\b|:? ?(none|0|null)\b|:? no\W*$)"
    r"|\W*\w+(Error|Exception)\b|\W*(cannot|can't|could not|unable to|kann nicht|impossible de)\b"
)
CODED = re.compile(  # a message of a database or of Maximo begins with its number
    r"(?i)\W*((ORA|PLS|TNS|SQLSTATE|SQLCODE|SQL)[-_ =\[]*-?\d{3,}|BMX[A-Z]{2}\d{4}E|\[(Microsoft|ODBC|Oracle|IBM|SQL)\b"
    r"|(HTTP/\d\S* )?[45]\d\d\W+(bad|un|not|page|internal|service|gateway|forbidden|method|request|conflict|too)\w*\b"
    r"|Msg \d+, Level|.{0,80}\b(constraint|foreign key|integrity)\b.{0,40}\b(violat|fail)"
    r"|.{0,80}\bviolat\w+\b.{0,40}\b(constraint|foreign key|integrity)\b)"
)
DONE = re.compile(r"(?i)\b(created|accepted|received|recorded|processed|saved|stored|successful(ly)?|queued)\b")
NOT = re.compile(r"(?i)\b(not|no|never)\b|n't")
TO_LOGIN = re.compile(r"(?i)log.?[io]n|sign.?in|sso|saml")
MARKUP_FAULT = re.compile(
    r"(?i)<(\w+:)?(fault|error|exception|errormessage)\b[^>/]*>\s*(?!0\s*<|false\b|none\b|null\b|no\b)[^\s<]|<(\w+:)?fault\b"
)
TITLE = re.compile(r"(?is)<(title|h1)[^>]*>\s*(.*?)\s*</")
LOGIN_CODES = (401, 402, 403, 407, 419, 440, 498, 511)
BUSY_CODES = (408, 409, 412, 417, 423, 425, 429)
