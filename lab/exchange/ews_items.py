"""The operations of EWS: messages into mailboxes, and the folders and items that a sender looks at.

Each takes the store, the mailbox that signed in and its request element, and gives one result a thing asked for.
Raises EwsError for a request that is refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from lab.exchange.objects import Mailbox, Message
from lab.exchange.store import Store

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
NS = {"t": TYPES, "m": MESSAGES, "s": SOAP}
DISPOSITIONS = ("SaveOnly", "SendOnly", "SendAndSaveCopy")
# Distinguished folders → names.
FOLDERS = {
    "root": "Root", "msgfolderroot": "Top of Information Store", "inbox": "Inbox", "sentitems": "Sent Items",
    "drafts": "Drafts", "outbox": "Outbox", "deleteditems": "Deleted Items",
}  # fmt: skip
# What stands in an operation's failed answer in place of results.
EMPTY = {"CreateItem": "<m:Items/>", "GetItem": "<m:Items/>", "GetFolder": "<m:Folders/>"}


class EwsError(Exception):
    """The request as a whole is refused. back_off: milliseconds, in the fault of a busy server."""

    def __init__(self, code: str, text: str, back_off: str = "") -> None:
        super().__init__(text)
        self.code, self.back_off = code, back_off


@dataclass(frozen=True)
class Found:
    """One result; `xml` is what stands in its answer."""

    xml: str


@dataclass(frozen=True)
class Refusal:
    """One thing's failure, as an answer of its own."""

    code: str
    text: str


# --- CreateItem ---


def create(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    disposition = request.get("MessageDisposition", "")
    elements = request.findall("m:Items/t:Message", NS)
    if disposition not in DISPOSITIONS or not elements:
        raise EwsError("ErrorSchemaValidation", "The request failed schema validation.")
    return [_create(store, sender, element, disposition) for element in elements]


def _create(store: Store, sender: Mailbox, element: ElementTree.Element, disposition: str) -> Found | Refusal:
    recipients = [
        (node.text or "").strip()
        for kind in ("ToRecipients", "CcRecipients", "BccRecipients")
        for node in element.iterfind(f"t:{kind}/t:Mailbox/t:EmailAddress", NS)
    ]
    wanted = element.findtext("t:From/t:Mailbox/t:EmailAddress", sender.smtp, NS)
    if wanted.lower() != sender.smtp.lower():
        return Refusal("ErrorSendAsDenied", "The user account does not have permission to send as this user.")
    is_sent = disposition != "SaveOnly"
    if is_sent and (not recipients or any("@" not in address for address in recipients)):
        return Refusal("ErrorInvalidRecipients", "At least one recipient isn't valid.")
    body = element.find("t:Body", NS)

    def message(folder: str) -> Message:
        return Message(
            sender=sender.smtp, subject=element.findtext("t:Subject", "", NS), recipients=recipients,
            body="" if body is None else body.text or "", folder=folder, received=store.now(),
            body_type="Text" if body is None else body.get("BodyType", "Text"),
            message_id=element.findtext("t:InternetMessageId", "", NS), properties=_properties(element),
        )  # fmt: skip

    if disposition != "SendOnly":
        store.deliver(sender, message("sentitems" if is_sent else "drafts"))
    for address in recipients if is_sent else ():
        mailbox = store.find_mailbox(address)
        if mailbox is not None:
            store.deliver(mailbox, message("inbox"))
    if is_sent:
        return Found("<m:Items/>")
    return Found(f"<m:Items><t:Message>{_item_id(len(sender.messages))}</t:Message></m:Items>")


def _properties(element: ElementTree.Element) -> dict[str, str]:
    """Named extended properties: name → value."""
    found = {}
    for one in element.iterfind("t:ExtendedProperty", NS):
        uri = one.find("t:ExtendedFieldURI", NS)
        if uri is not None and uri.get("PropertyName"):
            found[uri.get("PropertyName", "")] = one.findtext("t:Value", "", NS)
    return found


def _item_id(number: int) -> str:
    return f'<t:ItemId Id="LAB{number:08d}" ChangeKey="CK1"/>'


# --- GetFolder ---


def folders(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    asked = list(request.iterfind("m:FolderIds/*", NS))
    if not asked:
        raise EwsError("ErrorSchemaValidation", "The request failed schema validation.")
    return [_folder(store, sender, element) for element in asked]


def _folder(store: Store, sender: Mailbox, element: ElementTree.Element) -> Found | Refusal:
    owner = element.findtext("t:Mailbox/t:EmailAddress", sender.smtp, NS)
    if owner.lower() not in _addresses(sender):
        if store.find_mailbox(owner) is None:
            return Refusal("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
        return Refusal("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    name = _folder_name(element)
    if name not in FOLDERS:
        return Refusal("ErrorFolderNotFound", "The specified folder could not be found in the store.")
    count = sum(message.folder == name for message in sender.messages)
    parent = "root" if name in ("root", "msgfolderroot") else "msgfolderroot"
    return Found(
        f'<m:Folders><t:Folder><t:FolderId Id="LAB-{name}" ChangeKey="CK1"/>'
        f'<t:ParentFolderId Id="LAB-{parent}" ChangeKey="CK1"/>'
        f"<t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>{FOLDERS[name]}</t:DisplayName>"
        f"<t:TotalCount>{count}</t:TotalCount><t:ChildFolderCount>0</t:ChildFolderCount></t:Folder></m:Folders>"
    )


def _addresses(mailbox: Mailbox) -> set[str]:
    return {address.lower() for address in (mailbox.smtp, mailbox.upn, *mailbox.aliases)}


def _folder_name(element: ElementTree.Element) -> str:
    """Of a DistinguishedFolderId, or a FolderId that we gave out; its distinguished name."""
    return element.get("Id", "").removeprefix("LAB-").lower()


# --- FindItem ---


def find(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    """Only conditions of equality, and these joined by And; newest last, as they came."""
    names = [_folder_name(element) for element in request.iterfind("m:ParentFolderIds/*", NS)]
    if not names or any(name not in FOLDERS for name in names):
        return [Refusal("ErrorFolderNotFound", "The specified folder could not be found in the store.")]
    conditions = _conditions(request.find("m:Restriction", NS))
    with store.lock:
        numbered = list(enumerate(sender.messages, start=1))
    view = request.find("m:IndexedPageItemView", NS)
    limit = int(view.get("MaxEntriesReturned", "1000")) if view is not None else 1000
    offset = int(view.get("Offset", "0")) if view is not None else 0
    answers: list[Found | Refusal] = []
    for name in names:
        items = [
            (number, message)
            for number, message in numbered
            if message.folder == name and all(_value(message, field) == wanted for field, wanted in conditions)
        ]
        page = items[offset : offset + limit]
        is_last = str(offset + len(page) >= len(items)).lower()
        rows = "".join(
            f"<t:Message>{_item_id(number)}<t:Subject>{escape(message.subject)}</t:Subject>"
            f"<t:InternetMessageId>{escape(message.message_id)}</t:InternetMessageId></t:Message>"
            for number, message in page
        )
        answers.append(
            Found(
                f'<m:RootFolder IndexedPagingOffset="{offset + len(page)}" TotalItemsInView="{len(items)}" '
                f'IncludesLastItemInRange="{is_last}"><t:Items>{rows}</t:Items></m:RootFolder>'
            )
        )
    return answers


def _conditions(restriction: ElementTree.Element | None) -> list[tuple[str, str]]:
    """(field, value) for each: message:InternetMessageId, item:Subject, or the name of an extended property."""
    if restriction is None:
        return []
    tests = [*restriction.iterfind("t:IsEqualTo", NS), *restriction.iterfind("t:And/t:IsEqualTo", NS)]
    if not tests:
        raise EwsError("ErrorUnsupportedQueryFilter", "The lab knows equality alone.")
    found = []
    for test in tests:
        plain, extended = test.find("t:FieldURI", NS), test.find("t:ExtendedFieldURI", NS)
        if plain is not None:
            field = plain.get("FieldURI", "")
        else:
            field = "" if extended is None else extended.get("PropertyName", "")
        constant = test.find("t:FieldURIOrConstant/t:Constant", NS)
        found.append((field, "" if constant is None else constant.get("Value", "")))
    return found


def _value(message: Message, field: str) -> str | None:
    known = {"message:InternetMessageId": message.message_id, "item:Subject": message.subject}
    return known.get(field, message.properties.get(field))


# --- GetItem ---


def get(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    """By the ids of find(), what a mail consists of."""
    answers: list[Found | Refusal] = []
    for element in request.iterfind("m:ItemIds/t:ItemId", NS):
        number = element.get("Id", "").removeprefix("LAB")
        with store.lock:
            message = sender.messages[int(number) - 1] if number.isdecimal() and int(number) else None
        if message is None:
            answers.append(Refusal("ErrorItemNotFound", "The specified object was not found in the store."))
            continue
        mailboxes = "".join(
            f"<t:Mailbox><t:EmailAddress>{escape(address)}</t:EmailAddress></t:Mailbox>"
            for address in message.recipients
        )
        answers.append(
            Found(
                f"<m:Items><t:Message>{_item_id(int(number))}<t:Subject>{escape(message.subject)}</t:Subject>"
                f'<t:Body BodyType="{message.body_type}">{escape(message.body)}</t:Body>'
                f"<t:ToRecipients>{mailboxes}</t:ToRecipients>"
                f"<t:InternetMessageId>{escape(message.message_id)}</t:InternetMessageId></t:Message></m:Items>"
            )
        )
    return answers


# --- what libraries ask to get to know the server ---


def resolve(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    mailbox = store.find_mailbox(request.findtext("m:UnresolvedEntry", "", NS))
    if mailbox is None:
        return [Refusal("ErrorNameResolutionNoResults", "No results were found.")]
    return [
        Found(
            '<m:ResolutionSet TotalItemsInView="1" IncludesLastItemInRange="true"><t:Resolution><t:Mailbox>'
            f"<t:Name>{escape(mailbox.display_name)}</t:Name><t:EmailAddress>{escape(mailbox.smtp)}</t:EmailAddress>"
            "<t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox></t:Resolution>"
            "</m:ResolutionSet>"
        )
    ]


def convert(store: Store, sender: Mailbox, request: ElementTree.Element) -> list[Found | Refusal]:
    """No id of the lab's is convertible; libraries ask with an invalid one to learn the server's version."""
    count = len(list(request.iterfind("m:SourceIds/*", NS))) or 1
    return [Refusal("ErrorInvalidIdMalformed", "Id is malformed.")] * count
