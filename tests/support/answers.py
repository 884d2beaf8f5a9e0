# SPDX-License-Identifier: Apache-2.0
"""Answers of a success (2xx) as many systems give them: honest ones, and refusals that hide in one.

They follow the public documentation of the systems, or what their users report; no system was at hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

PROBLEM = {"type": "https://tools.ietf.org/html/rfc9110#section-15.5.2", "title": "Unauthorized", "status": 401}
RPC = {"jsonrpc": "2.0", "id": 12}
PAGE = "text/html; charset=utf-8"


class Given(NamedTuple):
    """One answer, before it is sent."""

    status: int
    body: Any = b""  # bytes as they are; anything else as JSON
    kind: str = "application/json"
    headers: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """The bytes of the body."""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


def text(status: int, body: str, kind: str = "text/plain") -> Given:
    """An answer that is no JSON."""
    return Given(status, body.encode(), kind)


HONEST_ORDERS: dict[str, Given] = {  # of systems for work orders: each made one
    "Odoo, JSON-RPC": Given(200, {**RPC, "result": 41}),
    "Odoo, XML-RPC over JSON": Given(200, {**RPC, "result": [41]}),
    "SAP S/4, OData v2": Given(201, {"d": {"MaintenanceOrder": "4000123", "SystemStatus": "CRTD", "Error": ""}}),
    "SAP, OData v4": Given(
        201, {"@odata.context": "$metadata#N", "MaintenanceNotification": "10000042", "SAP__Messages": []}
    ),
    "SAP, BAPI behind a gateway": Given(200, {"NUMBER": "000010000042", "RETURN": [{"TYPE": "S", "MESSAGE": "ok"}]}),
    "SAP, BAPI with a warning": Given(200, {"ORDERID": "4000123", "RETURN": {"TYPE": "W", "MESSAGE": "no priority"}}),
    "Maximo, OSLC without a body": Given(201, b"", "application/json", ("Location: https://mx/os/mxwo/_QkVE",)),
    "Maximo, OSLC with properties": Given(
        201, {"wonum": "1204", "status": "WAPPR", "failurecode": "PUMPS", "href": "x"}
    ),
    "Tryton": Given(200, [{"id": 7, "reference": "gw"}]),
    "Roundup": Given(201, {"data": {"id": "12", "link": "https://r/rest/data/issue/12"}}),
    "Fiix": Given(200, {"_": "AddResponse", "count": 1, "object": {"className": "WorkOrder", "id": 88}, "error": None}),
    "UpKeep": Given(200, {"success": True, "result": {"id": "bX3", "workOrderNumber": 17}}),
    "ServiceNow": Given(
        201, {"result": {"sys_id": "9d385017c611", "number": "INC0010002", "state": "1", "close_code": ""}}
    ),
    "ServiceNow, import set": Given(201, {"import_set": "ISET1", "result": [{"status": "inserted", "sys_id": "a1"}]}),
    "Jira": Given(201, {"id": "10000", "key": "ED-24", "self": "https://j/rest/api/3/issue/10000"}),
    "ERPNext": Given(200, {"data": {"name": "ISS-2026-00001", "status": "Open", "docstatus": 0, "error": None}}),
    "Dynamics 365": Given(
        204, b"", "application/json", ("OData-EntityId: https://d/api/data/v9.2/msdyn_workorders(1)",)
    ),
    "Dynamics 365 with the record": Given(201, {"msdyn_workorderid": "0000", "statuscode": 1, "statecode": 0}),
    "Limble": Given(200, {"taskID": 123}),
    "eMaint": Given(200, {"success": True, "data": {"wo": "WO-1041"}, "message": ""}),
    "Infor EAM": Given(200, {"Result": {"ResultData": {"JOBNUM": "10042"}}, "ErrorAlert": [], "WarningAlert": []}),
    "Salesforce": Given(201, {"id": "0WO5e0000004", "success": True, "errors": []}),
    "GitLab": Given(201, {"id": 84, "iid": 14, "title": "Check: error rate high", "state": "opened", "message": None}),
    "Zendesk": Given(201, {"ticket": {"id": 35436, "subject": "Error E42", "status": "new"}, "audit": {"id": 1}}),
    "Freshservice": Given(
        201, {"ticket": {"id": 20, "status": 2, "description_text": "login failed on HMI", "type": "Incident"}}
    ),
    "GLPI": Given(201, {"id": 15, "message": "Item successfully added: 15"}),
    "IBM ICD, with a machine's fault": Given(
        201, {"ticketid": "SR1004", "status": "NEW", "fault": "bearing", "errorcode": "E42"}
    ),
    "record that is called failed": Given(200, {"id": 7, "fault": "bearing", "status": "error"}),
    "record in state 450": Given(200, {"orderNumber": "77", "id": 5, "status": 450}),
    "Hexagon, number as text": text(200, "WO-104233"),
    "bare number": Given(200, 4711),
    "nothing but a status": Given(200),
    "accepted for later": Given(202),
    "empty table": Given(200, {}),
    "true": Given(200, True),
    "words": text(200, "Order created"),
    "German words": Given(200, {"status": "ok", "meldung": "Auftrag angelegt", "fehler": None}),
    "MongoDB": Given(200, {"ok": 1, "n": 1}),
    "GraphQL": Given(200, {"data": {"createIssue": {"errors": [], "issue": {"iid": "5"}}}}),
    "order with a history of errors": Given(200, {"order": {"id": 5, "history": [{"type": "error", "text": "x"}]}}),
    "code 0": Given(200, {"code": 0, "msg": "ok", "data": None}),
    "return code 0": Given(200, {"returnCode": 0, "returnText": "no errors found"}),
    "Chinese MES": Given(200, {"code": 200, "message": "操作成功", "success": True}),
    "error: false": Given(200, {"error": False}),
    "error: false, with words": Given(200, {"error": False, "message": "Auftrag wurde erfasst"}),
    "no error, as text": text(200, "Error 0: no error"),
    "XML": text(200, '<?xml version="1.0"?><order id="17"/>', "application/xml"),
    "XML with names of a schema": text(
        200, '<n:Order xmlns:n="x"><n:Id>17</n:Id></n:Order>', "text/xml; charset=utf-8"
    ),
    "XML that says nothing, created": text(201, "<order><state>open</state></order>", "text/xml"),
    "SOAP": text(
        200,
        "<s:Envelope><s:Header/><s:Body><Resp><errors>0</errors><nr>A-17</nr></Resp></s:Body></s:Envelope>",
        "text/xml",
    ),
    "page, created": text(201, "<html><body>Order 17 created</body></html>", PAGE),
    "YAML": text(200, "id: 17\nstate: open", "text/yaml"),
    "form": text(200, "RESULT=0&ORDER_NO=4711", "application/x-www-form-urlencoded"),
    "byte order mark": Given(201, b'\xef\xbb\xbf{"id": "bom-1"}'),
    "UTF-16": Given(200, '{"id": "u-1"}'.encode("utf-16")),
    "Latin-1": Given(200, '{"auftrag": "Prüf-1", "id": 5}'.encode("latin-1"), "application/json; charset=iso-8859-1"),
}

HONEST_HOOKS: dict[str, Given] = {  # of systems that only take events; some prove nothing about an order
    "Slack": text(200, "ok"),
    "Slack, chat.postMessage": Given(
        200, {"ok": True, "message": {"text": "opened: error on pump", "type": "message"}}
    ),
    "Teams, connector": text(200, "1"),
    "Power Automate": Given(202),
    "Mattermost": text(200, "ok"),
    "Discord": Given(204),
    "Google Chat": Given(200, {"name": "spaces/A/messages/B", "text": "error on pump", "sender": {"type": "BOT"}}),
    "Telegram": Given(200, {"ok": True, "result": {"message_id": 5, "text": "login failed at the HMI"}}),
    "n8n": Given(200, {"message": "Workflow was started"}),
    "Zapier": Given(200, {"attempt": "a", "id": "b", "request_id": "c", "status": "success"}),
    "Make": text(200, "Accepted"),
    "Node-RED": Given(200, {}),
    "Home Assistant": Given(200),
    "nginx": Given(204),
    "PagerDuty": Given(202, {"status": "success", "message": "Event processed", "dedup_key": "k"}),
    "Opsgenie": Given(202, {"result": "Request will be processed", "took": 0.3, "requestId": "r"}),
    "IFTTT": text(200, "Congratulations! You've fired the pump_fault event", PAGE),
    "Splunk": Given(200, {"text": "Success", "code": 0}),
    "Elasticsearch": Given(201, {"_id": "1", "result": "created", "_shards": {"total": 2, "failed": 0}}),
    "Grafana OnCall": text(200, "Ok."),
    "Twilio": text(200, '<?xml version="1.0"?><Response></Response>', "text/xml"),
    "SOAP service": text(200, "<s:Envelope><s:Body><r><errorCode>0</errorCode></r></s:Body></s:Envelope>", "text/xml"),
    "page that says thanks": text(200, "<html><title>Thanks</title><body>Event stored</body></html>", PAGE),
    "AWS Lambda": Given(200, {"statusCode": 200, "body": "done"}),
    "arbitrary table": Given(200, {"foo": [1, 2, {"bar": None}], "took": 3}),
    "arbitrary list": Given(200, []),
    "arbitrary text": text(200, "thank you, come again"),
    "Failure event received": text(200, "Failure event received and stored"),
    "no errors": Given(200, {"message": "No errors", "errorCount": 0, "errors": {}}),
}

LOGIN: dict[str, Given] = {  # a new login or key heals it
    "English": Given(200, {"message": "Your session has timed out. Please log in again."}),
    "OData": Given(200, {"d": None, "errorCode": "INVALID_SESSION_ID"}),
    "Salesforce": Given(200, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]),
    "code 401": Given(200, {"code": 401, "msg": "login required"}),
    "code 401 as text": Given(200, {"code": "401", "msg": "no"}),
    "problem details": Given(200, PROBLEM),
    "result": Given(200, {"result": "error", "text": "not authenticated"}),
    "German, as text": Given(200, {"success": "false", "errorMessage": "Sitzung ist abgelaufen"}),
    "German": Given(200, {"Status": "Error", "Message": "Sitzung abgelaufen"}),
    "German, Latin-1": Given(200, '{"ok": false, "text": "Sitzung ungültig"}'.encode("latin-1")),
    "German, log in": Given(200, {"meldung": "Bitte erneut anmelden"}),
    "French": Given(200, {"statut": "ko", "message": "Votre session a expiré, veuillez vous reconnecter"}),
    "French, plain": text(200, "Vous n'êtes pas connecté : veuillez vous connecter"),
    "Spanish": Given(200, {"mensaje": "La sesión ha caducado"}),
    "Spanish, denied": Given(200, {"error": "Acceso denegado"}),
    "Italian": Given(200, {"esito": "KO", "messaggio": "Sessione scaduta, effettuare di nuovo il login"}),
    "Portuguese": Given(200, {"message": "Sessão expirada"}),
    "Dutch": Given(200, {"message": "Uw sessie is verlopen"}),
    "Polish": Given(200, {"message": "Sesja wygasła"}),
    "Chinese": Given(200, {"code": 50008, "message": "会话已过期，请登录"}),
    "OSLC": Given(200, {"Oslc:Error": {"oslc:statusCode": "401", "oslc:message": "BMXAA7901E"}}),
    "SOAP as JSON": Given(200, {"Fault": {"Code": "SessionTimeout"}}),
    "token": Given(200, {"ok": False, "reason": "token expired"}),
    "flag": Given(200, {"authenticated": False}),
    "ASP.NET": Given(200, {"Message": "Authorization has been denied for this request."}),
    "German, no longer": Given(200, {"message": "Ihre Sitzung ist nicht mehr gueltig"}),
    "German, signed out": Given(200, {"message": "Sie sind nicht mehr angemeldet"}),
    "German, password": Given(200, {"message": "Benutzername oder Passwort falsch"}),
    "rights": Given(200, {"message": "Insufficient privileges"}),
    "way to the login": Given(200, {"redirect": "/web/login?next=%2Forders"}),
    "Odoo": Given(200, {**RPC, "error": {"code": 100, "message": "Odoo Session Expired"}}),
    "Google": Given(200, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "no"}}),
    "id of the request": Given(200, {"id": "req-12", "message": "Session expired"}),
    "nested": Given(200, {"response": {"data": {"message": "Not logged in"}}}),
    "login form": text(200, "<html><form action=login>", PAGE),
    "login form in German": text(200, "<html><title>Anmeldung</title><form>", PAGE),
    "page that leads to a login": text(200, '<script>window.location="/auth/login"</script>', PAGE),
    "page that says so": text(200, "<html><body>Your session has expired</body></html>", PAGE),
}

REFUSED: dict[str, Given] = {  # a person has to look
    "return code": Given(200, {"returnCode": 8, "returnText": "asset unknown"}),
    "return code as text": Given(200, {"RETCODE": "0012", "TEXT": "asset unknown"}),
    "flag": Given(200, {"IsSuccess": False}),
    "flag as number": Given(200, {"success": 0, "message": "asset unknown"}),
    "flag of errors": Given(200, {"hasErrors": True, "items": []}),
    "SAP messages": Given(200, {"messages": [{"type": "E", "text": "Equipment unknown"}]}),
    "messages with a severity": Given(200, {"details": [{"severity": "Error", "text": "Equipment unknown"}]}),
    "BAPI": Given(200, {"RETURN": [{"TYPE": "A", "MESSAGE": "Equipment unknown"}]}),
    "false": Given(200, False),
    "JSON-RPC, false": Given(200, {**RPC, "result": False}),
    "JSON-RPC, error": Given(200, {**RPC, "error": {"code": -32602, "message": "asset unknown"}}),
    "GraphQL": Given(200, {"data": None, "errors": [{"message": "asset: unknown"}]}),
    "text as JSON": Given(200, "ERROR: no such asset"),
    "text": text(200, "ERROR: no such asset"),
    "German text": text(200, "Fehler: Anlage unbekannt"),
    "NOK": text(200, "NOK"),
    "text false": text(200, "false"),
    "words in a message": Given(200, {"message": "Cannot create order: asset unknown"}),
    "ASP.NET": Given(200, {"Message": "An error has occurred.", "ExceptionType": "System.NullReferenceException"}),
    "exception with a name": Given(200, {"name": "ValidationError", "message": "asset unknown"}),
    "Infor EAM": Given(200, {"Result": None, "ErrorAlert": [{"Message": "asset unknown"}]}),
    "Fiix": Given(200, {"_": "AddResponse", "error": {"code": 7, "message": "asset unknown"}}),
    "code 422": Given(200, {"status": 422, "title": "asset unknown"}),
    "code 400 with the id of the request": Given(200, {"id": "req-1", "status": 400, "message": "asset unknown"}),
    "code with a name": Given(200, {"code": "ERR_ASSET", "message": "asset unknown"}),
    "negative code": Given(200, {"ret": -1}),
    "OData, one message": Given(200, {"d": {"Type": "E", "Message": "Equipment unknown"}}),
    "list of texts": Given(200, ["Error: asset unknown"]),
    "messages as texts": Given(200, {"messages": ["Error: asset unknown"]}),
    "fields": Given(200, {"validationErrors": [{"field": "asset"}]}),
    "false inside": Given(200, {"d": False}),
    "German table": Given(200, {"meldung": "Anlage unbekannt", "ergebnis": "Fehler"}),
    "NOT_OK": Given(200, {"status": "NOT_OK", "msg": "asset"}),
    "JSend": Given(200, {"status": "fail", "data": {"asset": "unknown"}}),
    "WeChat": Given(200, {"return_code": "FAIL", "return_msg": "asset unknown"}),
    "errcode": Given(200, {"errcode": 40003, "errmsg": "asset unknown"}),
    "word for the outcome": Given(200, {"result": "rejected"}),
    "batch": Given(200, {"results": [{"success": False, "why": "asset unknown"}]}),
    "SOAP fault": text(200, "<s:Envelope><s:Body><s:Fault><faultstring>asset</faultstring></s:Fault>", "text/xml"),
    "XML": text(200, "<response><error>asset unknown</error></response>", "text/xml"),
    "state": Given(200, {"state": "REJECTED", "asset": "pump"}),
    "flag as a letter": Given(200, {"success": "N"}),
    "flag with a message": Given(200, {"status": False, "message": "asset unknown"}),
    "not acknowledged": Given(200, {"ack": "NACK"}),
    "not valid": Given(200, {"valid": False}),
    "count of errors": Given(200, {"errorCount": 1}),
    "count of failures": Given(200, {"created": 0, "failed": 2}),
    "list of what was rejected": Given(200, {"inserted": [], "rejected": [{"id": 5}]}),
    "service of WCF": Given(200, {"CreateOrderResult": False}),
    "negative number": Given(200, -1),
    "negative result": Given(200, {**RPC, "result": -3}),
    "title of problem details": Given(200, {"traceId": "1", "title": "Bad Request", "detail": "asset: unknown"}),
    "flag in a text": text(200, "success=false"),
    "lines": text(200, "code: 17\nstatus: rejected\nreason: asset"),
    "form": text(200, "RESULT=error&MSG=asset", "application/x-www-form-urlencoded"),
    "number of Oracle": text(200, "ORA-00001: unique constraint (MES.UQ) violated"),
    "status of HTTP in words": text(200, "404 page not found"),
    "number of Maximo": text(200, "BMXAA4187E - asset"),
    "database": Given(200, {"message": "[Microsoft][ODBC Driver 17] asset"}),
    "integrity": Given(200, {"msg": "insert or update on orders violates foreign key constraint asset_fk"}),
    "XML, flag": text(200, "<response><success>false</success></response>", "text/xml"),
    "XML, number": text(200, '<?xml version="1.0"?><int xmlns="http://tempuri.org/">-1</int>', "text/xml"),
    "XML, attribute": text(200, '<rsp stat="x"><err code="5" msg="asset"/></rsp>', "text/xml"),
    "XML, outcome": text(200, "<r><Result>NOK</Result><Info><![CDATA[<asset>]]></Info></r>", "application/soap+xml"),
    "SOAP, return code": text(
        200, "<s:Envelope><s:Body><R><ReturnCode>8</ReturnCode></R></s:Body></s:Envelope>", "text/xml"
    ),
    "error page": text(200, "<html><title>Server Error in '/' Application</title></html>", PAGE),
}

BUSY: dict[str, Given] = {  # another try may succeed
    "code 503": Given(200, {"statusCode": 503, "message": "maintenance"}),
    "maintenance": Given(200, {"maintenance": True}),
    "read only": Given(200, {"readOnly": True, "since": "10:00"}),
    "code 409": Given(200, {"status": 409, "message": "order was changed"}),
    "code 429": Given(200, {"error": {"code": 429, "message": "quota"}}),
}

UNCLEAR: dict[str, Given] = {  # neither: for any target
    "null": Given(200, b"null"),
    "id is null": Given(201, {"id": None}),
    "all is null": Given(200, {"data": {"order": None}, "next": None}),
    "list of null": Given(200, [None]),
}

UNPROVEN: dict[str, Given] = {  # neither: where an order is to be made
    "empty list": Given(200, []),
    "words that nobody knows": Given(200, {"message": "Istunto on vanhentunut"}),
    "text that nobody knows": text(200, "thank you, come again"),
    "code that nobody knows": Given(200, {"code": 77, "info": "x"}),
    "JSON-RPC without a result": Given(200, {**RPC, "result": None}),
    "nothing written": Given(200, {"affectedRows": 0}),
    "id of another thing": Given(200, {"assetId": 5, "lineNumber": 7}),
    "key that the words are about": Given(200, {"key": "asset", "message": "tuntematon"}),
    "time": text(200, "2026-11-29T00:00:00Z"),
    "XML without anything": text(200, "<order><text>tuntematon</text></order>", "text/xml"),
    "page of no kind that we know": text(200, "<html><body>Tilaukset</body></html>", PAGE),
    "user and no order": Given(200, {"user": {"id": 3}, "requestId": "r-1"}),
}

NO_IDS: tuple[Any, ...] = (  # in the place of an id
    None, "", " ", 0, -1, "0", "-1", "null", "None", "undefined", "NaN", "N/A", "nil", "unknown", False, True, [], {},
    1.5,
    "00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}", "000000000000", "-", "(null)",
)  # fmt: skip
