# SPDX-License-Identifier: Apache-2.0
"""Words by which systems say that a session has ended, or that a login is not accepted. Pure.

A target answers in the language of its account: English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
Polish, Czech, Turkish, Russian, Chinese and Japanese are known. A new login or a new key heals all of these.
"""

from __future__ import annotations

import re

_SESSION = (
    r"(session|sitzung|sesi[oó]n|sessione|sess[aã]o|sessie|sesj\w+|relace|oturum\w*|сесси\w+|сеанс\w*"
    r"|会话|會話|セッション)"
)
_ENDED = (
    r"(expired|invalid|ended|closed|terminated|lost|timed?.?out|not.(found|valid)|unknown"
    r"|abgelaufen|ung(ü|ue)ltig|beendet|geschlossen|getrennt|(existiert|besteht) nicht|nicht mehr g(ü|ue)ltig"
    r"|no longer valid|n.est plus valide|zeit(ü|ue)berschreitung"
    r"|expir[eéaoó]\w*|invalid\w*|caducad\w*|termin\w*|finaliz\w*|cerrad\w*|scadut\w*|non valid\w*|chiusa"
    r"|verlopen|ongeldig|wygas\w*|vypršel\w*|neplatn\w*|gått ut|ogiltig|sona er\w*|doldu|истек\w*|истёк\w*"
    r"|过期|過期|失效|超时|無効|期限切れ|タイムアウト)"
)
_KEY = r"(token|api.?key|credentials?|passwor[dt]|kennwort|jeton|zugangsdaten|mot de passe|contrase[ñn]a)"
_BAD = r"(expired|invalid|revoked|incorrect|wrong|abgelaufen|ung(ü|ue)ltig|falsch|expir[eéaoó]\w*|scadut\w*|caducad\w*)"
_WORDS = (
    rf"{_SESSION}.{{0,30}}{_ENDED}",
    rf"(expired|invalid|ung(ü|ue)ltige?|abgelaufene?).{{0,10}}{_SESSION}",
    rf"{_KEY}.{{0,20}}{_BAD}",
    rf"{_BAD}.{{0,10}}{_KEY}",
    r"not (logged|signed) ?(in|on)|(log|sign).?(in|on) (again|first|required|needed|failed|expired)",
    r"(please|must|need to) (re-?)?(log|sign|authenticate).?(in|on|\b)|login.{0,12}(required|needed|failed|expired)",
    r"login (ist )?(erforderlich|fehlgeschlagen|abgelaufen)",
    r"(re-?)?authentication (is )?(required|failed|expired)|not authenticated|unauthenticated|unauthori[sz]ed",
    r"not authori[sz]ed|authori[sz]ation has been denied|(access|permission).?denied",
    r"csrf|(logged|signed) out",
    r"insufficient (privilege|permission|right)s?|(keine|fehlende) berechtigung|abgemeldet|déconnecté|desconectado",
    r"(user.?name|benutzername?|utilisateur|usuario).{0,12}(password|passwort|mot de passe|contraseña)",
    r"nicht (mehr )?(eingeloggt|angemeldet|authentifiziert|autorisiert|berechtigt)|einloggen|zugriff verweigert",
    r"(neu|erneut|bitte|wieder) (\w+ )?an(zu)?(melden|gemeldet)|melden sie sich",
    r"anmeldung (\w+ )?(erforderlich|n(ö|oe)tig|notwendig|fehlgeschlagen|abgelaufen)",
    r"(vous |re)connecte[rz]|pas (connect|authentifi|autoris)\w+|identifie[rz]",
    r"non (connect|authentifi|autoris)\w+|acc[eè]s (refus|interdit)\w*",
    r"connexion (requise|expirée)",
    r"inici(e|ar|a) (de )?sesi[oó]n|no (autenticad|ha iniciado)\w*|no est[aá] autorizad\w*",
    r"(acceso|acesso) (denegado|negado)",
    r"non (autenticat|autorizzat)\w+|accesso negato|(effettua\w*|eseguire|necessario) (di nuovo )?(il login|l.accesso)",
    r"n[aã]o (autenticad|autorizad)\w+|fa[cç]a (o )?login|niet (ingelogd|aangemeld|geautoriseerd)|toegang geweigerd",
    r"logga in|inte inloggad|zaloguj|přihla\w+|giriş yap\w*|войдите|не авторизован|未登录|请登录|請登入|ログインし",
)
LOGIN = re.compile("(?i)" + "|".join(_WORDS))
