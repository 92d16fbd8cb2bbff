"""The built-in texts of notification mail, by language: templates, reasons and states in a recipient's words.

Data alone, so that an organization's own template and the built-in one are the same kind of thing. No gettext: a mail
speaks its recipient's language, whoever runs the process that writes it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LANGUAGES = ("en", "zh-hant")
KINDS = ("not_enrolled", "not_compliant", "denied")


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """subject: one line. body: Markdown. Both with {{placeholders}}."""

    subject: str
    body: str


TEMPLATES: Mapping[str, Mapping[str, MailTemplate]] = {
    "en": {
        "not_enrolled": MailTemplate(
            "Enroll your phone to get mail on it",
            """Hello {{person_first_name}},

**{{device}}** tried to get your mail. {{organization}} gives mail to enrolled devices only, and this one is \
not enrolled yet, so it gets none for now. Nothing on the phone was deleted.

To get mail on it:

1. Open this mail **on the phone itself** (by the web or another app) and tap the link.
2. Sign in with your work account and follow the steps to the end.
3. Mail arrives by itself, usually within a few minutes.

[Enroll this phone]({{enrollment_link}})

If the link cannot be tapped, type this address: {{enrollment_link}}

**You do not know this device?** Then tell {{help_contact}} at once: somebody may know your password.

---

{{device_model}} · {{device_os}} · ID {{device_id}} · {{date}}
""",
        ),
        "not_compliant": MailTemplate(
            "Your phone needs a setting changed before it gets mail",
            """Hello {{person_first_name}},

**{{device}}** is enrolled, but it does not meet a security requirement of {{organization}}, so it gets no mail \
for now. Often it is a passcode, encryption or a system update. Nothing on the phone was deleted.

To get mail on it:

1. Open the link **on the phone**. It shows what is missing.
2. Change the setting, and tap *Check* there.
3. Mail arrives by itself, usually within a few minutes.

[Show what is missing]({{enrollment_link}})

If the link cannot be tapped, type this address: {{enrollment_link}}

Questions? Ask {{help_contact}}.

---

{{device_model}} · {{device_os}} · ID {{device_id}} · {{date}}
""",
        ),
        "denied": MailTemplate(
            "Your phone gets no mail for now",
            """Hello {{person_first_name}},

**{{device}}** gets no mail of {{organization}} for now. The reason: {{reason}}. Nothing on the phone was deleted.

A device that is enrolled and meets the requirements gets mail. You can enroll it here:

[Enroll this phone]({{enrollment_link}})

If the link cannot be tapped, type this address: {{enrollment_link}}

If you think this is a mistake, ask {{help_contact}}.

---

{{device_model}} · {{device_os}} · ID {{device_id}} · {{date}}
""",
        ),
    },
    "zh-hant": {
        "not_enrolled": MailTemplate(
            "請註冊您的手機，以便接收郵件",
            """{{person_first_name}} 您好：

您的裝置 **{{device}}** 嘗試接收您的郵件。{{organization}}只將郵件提供給已註冊的裝置，而此裝置尚未註冊，\
因此暫時收不到郵件。手機上的資料都沒有被刪除。

請依下列步驟恢復郵件：

1. 在**這支手機上**（以瀏覽器或其他應用程式）開啟這封郵件，並點選連結。
2. 以您的公司帳戶登入，並完成所有步驟。
3. 郵件會自動送達，通常只需幾分鐘。

[註冊這支手機]({{enrollment_link}})

如果無法點選連結，請輸入此網址：{{enrollment_link}}

**不認得這部裝置？** 請立即告知{{help_contact}}：可能有人知道了您的密碼。

---

{{device_model}} · {{device_os}} · 識別碼 {{device_id}} · {{date}}
""",
        ),
        "not_compliant": MailTemplate(
            "您的手機需要變更設定才能接收郵件",
            """{{person_first_name}} 您好：

您的裝置 **{{device}}** 已註冊，但不符合{{organization}}的安全性要求，因此暫時收不到郵件。\
通常是密碼、加密或系統更新的問題。手機上的資料都沒有被刪除。

請依下列步驟恢復郵件：

1. 在**這支手機上**開啟連結，查看缺少的項目。
2. 變更設定，然後在該處點選「檢查」。
3. 郵件會自動送達，通常只需幾分鐘。

[查看缺少的項目]({{enrollment_link}})

如果無法點選連結，請輸入此網址：{{enrollment_link}}

有問題嗎？請洽{{help_contact}}。

---

{{device_model}} · {{device_os}} · 識別碼 {{device_id}} · {{date}}
""",
        ),
        "denied": MailTemplate(
            "您的手機暫時收不到郵件",
            """{{person_first_name}} 您好：

您的裝置 **{{device}}** 暫時收不到{{organization}}的郵件。原因：{{reason}}。手機上的資料都沒有被刪除。

已註冊且符合要求的裝置可以接收郵件。您可以在此註冊：

[註冊這支手機]({{enrollment_link}})

如果無法點選連結，請輸入此網址：{{enrollment_link}}

如果您認為這是錯誤，請洽{{help_contact}}。

---

{{device_model}} · {{device_os}} · 識別碼 {{device_id}} · {{date}}
""",
        ),
    },
}

# What stands for a value that is not known.
UNKNOWN: Mapping[str, Mapping[str, str]] = {
    "en": {
        "person": "colleague", "person_first_name": "colleague", "device": "Your phone", "device_model": "Phone",
        "device_os": "system unknown", "reason": "it is not enrolled", "state": "blocked",
        "organization": "your organization", "help_contact": "your help desk",
    },
    "zh-hant": {
        "person": "同仁", "person_first_name": "同仁", "device": "您的手機", "device_model": "手機",
        "device_os": "系統不明", "reason": "尚未註冊", "state": "已封鎖", "organization": "貴公司",
        "help_contact": "資訊服務台",
    },
}  # fmt: skip

# By Graph's members (facts.py).
REASONS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "notEnrolled": "it is not enrolled",
        "notCompliant": "it does not meet a security requirement",
        "exchangeGlobalRule": "the organization's default does not let unknown devices in",
        "exchangeIndividualRule": "an administrator has blocked it",
        "exchangeDeviceRule": "devices of this kind are not let in",
    },
    "zh-hant": {
        "notEnrolled": "尚未註冊",
        "notCompliant": "不符合安全性要求",
        "exchangeGlobalRule": "組織的預設值不允許未知的裝置",
        "exchangeIndividualRule": "系統管理員已將其封鎖",
        "exchangeDeviceRule": "不允許此類裝置",
    },
}
STATES: Mapping[str, Mapping[str, str]] = {
    "en": {"blocked": "blocked", "quarantined": "quarantined", "allowed": "allowed"},
    "zh-hant": {"blocked": "已封鎖", "quarantined": "已隔離", "allowed": "已允許"},
}

TEST_MAIL: Mapping[str, MailTemplate] = {
    "en": MailTemplate(
        "Test mail from Gatehouse",
        """This is a test mail of {{organization}}.

It shows that Gatehouse can send notification mail. Nothing needs doing, and no phone was changed.

{{date}}
""",
    ),
    "zh-hant": MailTemplate(
        "Gatehouse 測試郵件",
        """這是{{organization}}的測試郵件。

這表示 Gatehouse 可以傳送通知郵件。您不需要採取任何動作，也沒有變更任何手機。

{{date}}
""",
    ),
}


def known_language(code: str) -> str:
    """One of LANGUAGES for any language tag: "zh-TW" is Traditional Chinese, and what we do not speak is English."""
    parts = code.lower().replace("_", "-").split("-")
    if parts[0] == "zh" and not {"hans", "cn", "sg"} & set(parts):
        return "zh-hant"
    return "en"


def default_template(reason: str, language: str) -> MailTemplate:
    """The built-in one for a kind, or for Graph's reason."""
    kind = {"notEnrolled": "not_enrolled", "notCompliant": "not_compliant"}.get(reason, reason)
    return TEMPLATES[known_language(language)][kind if kind in KINDS else "denied"]


def reason_text(reason: str, language: str) -> str:
    """Why the device is kept out, as the end of a sentence; "" for what needs no word."""
    return REASONS[known_language(language)].get(reason, "")


def state_text(state: str, language: str) -> str:
    return STATES[known_language(language)].get(state, "")
