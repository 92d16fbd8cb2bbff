"""The settings of a mailbox policy: their names, what they are called under the Mobile names, their defaults.

Stored and keyed by the ActiveSync name. Sizes and times are Exchange's Unlimited<T>, therefore text.
"""

from __future__ import annotations

from typing import Any

# ActiveSync name → Mobile name.
RENAMED = {
    "DevicePasswordEnabled": "PasswordEnabled",
    "AlphanumericDevicePasswordRequired": "AlphanumericPasswordRequired",
    "AllowSimpleDevicePassword": "AllowSimplePassword",
    "MinDevicePasswordLength": "MinPasswordLength",
    "MinDevicePasswordComplexCharacters": "MinPasswordComplexCharacters",
    "MaxDevicePasswordFailedAttempts": "MaxPasswordFailedAttempts",
    "MaxInactivityTimeDeviceLock": "MaxInactivityTimeLock",
    "DevicePasswordExpiration": "PasswordExpiration",
    "DevicePasswordHistory": "PasswordHistory",
}
DEFAULTS: dict[str, Any] = {
    "AllowNonProvisionableDevices": False,
    "DevicePasswordEnabled": False,
    "AlphanumericDevicePasswordRequired": False,
    "AllowSimpleDevicePassword": True,
    "MinDevicePasswordLength": 4,
    "MinDevicePasswordComplexCharacters": 1,
    "MaxDevicePasswordFailedAttempts": "8",
    "MaxInactivityTimeDeviceLock": "00:15:00",
    "DevicePasswordExpiration": "Unlimited",
    "DevicePasswordHistory": 0,
    "AllowApplePushNotifications": True,
    "AllowBluetooth": "Allow",
    "AllowBrowser": True,
    "AllowCamera": True,
    "AllowConsumerEmail": True,
    "AllowDesktopSync": True,
    "AllowExternalDeviceManagement": False,
    "AllowHTMLEmail": True,
    "AllowInternetSharing": True,
    "AllowIrDA": True,
    "AllowMobileOTAUpdate": True,
    "AllowPOPIMAPEmail": True,
    "AllowRemoteDesktop": True,
    "AllowSMIMEEncryptionAlgorithmNegotiation": "AllowAnyAlgorithmNegotiation",
    "AllowSMIMESoftCerts": True,
    "AllowStorageCard": True,
    "AllowTextMessaging": True,
    "AllowUnsignedApplications": True,
    "AllowUnsignedInstallationPackages": True,
    "AllowWiFi": True,
    "ApprovedApplicationList": [],
    "AttachmentsEnabled": True,
    "DeviceEncryptionEnabled": False,
    "DevicePolicyRefreshInterval": "Unlimited",
    "IrmEnabled": True,
    "MaxAttachmentSize": "Unlimited",
    "MaxCalendarAgeFilter": "All",
    "MaxEmailAgeFilter": "All",
    "MaxEmailBodyTruncationSize": "Unlimited",
    "MaxEmailHTMLBodyTruncationSize": "Unlimited",
    "PasswordRecoveryEnabled": False,
    "RequireDeviceEncryption": False,
    "RequireEncryptedSMIMEMessages": False,
    "RequireEncryptionSMIMEAlgorithm": "TripleDES",
    "RequireManualSyncWhenRoaming": False,
    "RequireSignedSMIMEAlgorithm": "SHA1",
    "RequireSignedSMIMEMessages": False,
    "RequireStorageCardEncryption": False,
    "UNCAccessEnabled": True,
    "UnapprovedInROMApplicationList": [],
    "WSSAccessEnabled": True,
}
