# bash completion for mk2dbus. Made by docs/generate from the parsers of the commands.

_mk2dbus() {
    local IFS=$' \t\n' current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word options='' kind='' value
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        if [[ $word != -* ]]; then command=$word; break; fi
    done

    case $command in
        run)
            options='-h --help --tty --simulate --sim-control --baudrate --pipeline --poll-interval --bus --name --device-instance --state-dir --standby --read-only --log-level --capture --with-serial-numbers'
            kind=options ;;
        simulate)
            options='-h --help --link --baudrate --latency --control --list'
            kind='words:multiplus2 multiplus2-ess multiplus-old quattro quattro3 ess3 parallel3 parallel-3phase mixed big split2 sensors bms dmc nodevice' ;;
        sim)
            options='-h --help'
            kind=file ;;
        list)
            options='-h --help --service --bus --changed --known --writable --json --csv'
            kind=item ;;
        get)
            options='-h --help --service --bus'
            kind=item ;;
        set)
            options='-h --help --service --bus --ram-only --dry-run --yes'
            kind=item ;;
        watch)
            options='-h --help --service --bus --json'
            kind=item ;;
        monitor)
            options='-h --help --service --bus --line --ascii --no-ascii --note'
            kind=options ;;
        paths)
            options='-h --help --markdown'
            kind=item ;;
        backup)
            options='-h --help --service --bus --wait --force'
            kind=file ;;
        diff)
            options='-h --help --service --bus --wait'
            kind=file ;;
        restore)
            options='-h --help --service --bus --wait --force --dry-run --yes'
            kind=file ;;
        read-ram)
            options='-h --help --service --bus --device'
            kind=text ;;
        write-ram)
            options='-h --help --service --bus --device --yes'
            kind=text ;;
        install)
            options='-h --help --dry-run --root --yes --force'
            kind=options ;;
        uninstall)
            options='-h --help --dry-run --root --yes --purge'
            kind=options ;;
        doctor)
            options='-h --help --tty --bus --json'
            kind=options ;;
        capture)
            options='-h --help --tty --seconds --with-serial-numbers'
            kind=file ;;
        replay)
            options='-h --help --stats'
            kind=file ;;
        '')
            options='-h --help --version'
            kind='words:run simulate sim list get set watch monitor paths backup diff restore read-ram write-ram install uninstall doctor capture replay' ;;
    esac

    # The value of an option, or an argument.
    value=${_mk2dbus_values["$command $previous"]-}
    if [[ -n $value && $current != -* ]]; then kind=$value; elif [[ $current == -* ]]; then kind=options; fi
    case $kind in
        options) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
        words:*) COMPREPLY=($(compgen -W "${kind#words:}" -- "$current")) ;;
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        port) COMPREPLY=($(compgen -G "${current:-/dev/}*" | grep -E '^/dev/(tty[A-Z]|mk[23])')) ;;
        item) COMPREPLY=($(compgen -W "$_mk2dbus_items" -- "$current")) ;;
    esac
}

complete -F _mk2dbus mk2dbus

# What follows an option that takes a value.
declare -gA _mk2dbus_values=(
    ['run --tty']=port
    ['run --simulate']='words:multiplus2 multiplus2-ess multiplus-old quattro quattro3 ess3 parallel3 parallel-3phase mixed big split2 sensors bms dmc nodevice'
    ['run --sim-control']=file
    ['run --baudrate']='words:auto 2400 115200'
    ['run --pipeline']='words:1 2 3'
    ['run --poll-interval']=text
    ['run --bus']='words:system session'
    ['run --name']=text
    ['run --device-instance']=text
    ['run --state-dir']=folder
    ['run --log-level']='words:debug info warning error'
    ['run --capture']=file
    ['simulate --link']=file
    ['simulate --baudrate']='words:2400 0'
    ['simulate --latency']=text
    ['simulate --control']=file
    ['list --service']=text
    ['list --bus']='words:system session'
    ['get --service']=text
    ['get --bus']='words:system session'
    ['set --service']=text
    ['set --bus']='words:system session'
    ['watch --service']=text
    ['watch --bus']='words:system session'
    ['monitor --service']=text
    ['monitor --bus']='words:system session'
    ['monitor --note']=text
    ['backup --service']=text
    ['backup --bus']='words:system session'
    ['backup --wait']=text
    ['diff --service']=text
    ['diff --bus']='words:system session'
    ['diff --wait']=text
    ['restore --service']=text
    ['restore --bus']='words:system session'
    ['restore --wait']=text
    ['read-ram --service']=text
    ['read-ram --bus']='words:system session'
    ['read-ram --device']=text
    ['write-ram --service']=text
    ['write-ram --bus']='words:system session'
    ['write-ram --device']=text
    ['install --root']=folder
    ['uninstall --root']=folder
    ['doctor --tty']=port
    ['doctor --bus']='words:system session'
    ['capture --tty']=port
    ['capture --seconds']=text
)

_mk2dbus_items='/Mgmt/ProcessName /Mgmt/ProcessVersion /Mgmt/Connection /Mgmt/Statistics/ShareSent /Mgmt/Statistics/ShareReceived /Mgmt/Statistics/RoundTrip /Mgmt/Statistics/RoundTripMax /Mgmt/Statistics/OldestValue /Mgmt/Statistics/Cycle /Mgmt/Statistics/Pipeline /Mgmt/Statistics/Sessions /Mgmt/Statistics/Retries /Mgmt/Statistics/Timeouts /Mgmt/Statistics/DroppedBytes /Mgmt/Statistics/StrayFrames /Mgmt/Statistics/ImplausibleFrames /DeviceInstance /CustomName /ProductId /ProductName /FirmwareVersion /FirmwareSubVersion /HardwareVersion /Serial /Connected /Interfaces/Mk2/Connection /Interfaces/Mk2/ProductId /Interfaces/Mk2/ProductName /Interfaces/Mk2/Version /Interfaces/Mk2/Status/Baudrate /Interfaces/Mk2/Status/HighSpeed /Interfaces/Mk2/Status/Reason /State /VebusMainState /VebusChargeState /VebusSetChargeState /VebusError /Mode /ModeIsAdjustable /SystemReset /RedetectSystem /ShortIds /Devices/NumberOfMultis /Devices/Dmc/Version /Devices/Bms/Version /Quirks /FirmwareFeatures/CommandWriteViaId /Dc/0/Voltage /Dc/0/Current /Dc/0/Power /Dc/0/Temperature /Dc/0/MaxChargeCurrent /Soc /Ac/NumberOfPhases /Ac/NumberOfAcInputs /Ac/PowerMeasurementType /Ac/ActiveIn/ActiveInput /Ac/ActiveIn/Connected /Ac/ActiveIn/CurrentLimit /Ac/ActiveIn/CurrentLimitIsAdjustable /Ac/In/1/CurrentLimit /Ac/In/1/CurrentLimitIsAdjustable /Ac/In/2/CurrentLimit /Ac/In/2/CurrentLimitIsAdjustable /Ac/ActiveIn/P /Ac/ActiveIn/S /Ac/ActiveIn/L1/V /Ac/ActiveIn/L1/I /Ac/ActiveIn/L1/P /Ac/ActiveIn/L1/S /Ac/ActiveIn/L1/F /Ac/ActiveIn/L2/V /Ac/ActiveIn/L2/I /Ac/ActiveIn/L2/P /Ac/ActiveIn/L2/S /Ac/ActiveIn/L2/F /Ac/ActiveIn/L3/V /Ac/ActiveIn/L3/I /Ac/ActiveIn/L3/P /Ac/ActiveIn/L3/S /Ac/ActiveIn/L3/F /Ac/Out/P /Ac/Out/S /Ac/Out/L1/V /Ac/Out/L1/I /Ac/Out/L1/P /Ac/Out/L1/S /Ac/Out/L1/F /Ac/Out/L2/V /Ac/Out/L2/I /Ac/Out/L2/P /Ac/Out/L2/S /Ac/Out/L2/F /Ac/Out/L3/V /Ac/Out/L3/I /Ac/Out/L3/P /Ac/Out/L3/S /Ac/Out/L3/F /Ac/State/IgnoreAcIn1 /Ac/State/RemoteGeneratorSelected /Settings/AssistCurrentBoostFactor /Settings/InverterOutputVoltage /Settings/PowerAssistEnabled /Settings/UpsFunction /Leds/Mains /Leds/Bulk /Leds/Absorption /Leds/Float /Leds/Inverter /Leds/Overload /Leds/LowBattery /Leds/Temperature /Alarms/HighTemperature /Alarms/LowBattery /Alarms/Overload /Alarms/Ripple /Alarms/TemperatureSensor /Alarms/VoltageSensor /Alarms/VeBusError /Energy/AcIn1ToInverter /Energy/AcIn2ToInverter /Energy/AcIn1ToAcOut /Energy/AcIn2ToAcOut /Energy/InverterToAcIn1 /Energy/InverterToAcIn2 /Energy/AcOutToAcIn1 /Energy/AcOutToAcIn2 /Energy/InverterToAcOut /Energy/OutToInverter /Hub4/AssistantId /Hub4/L1/AcPowerSetpoint /Hub4/L2/AcPowerSetpoint /Hub4/L3/AcPowerSetpoint /Hub4/DisableCharge /Hub4/DisableFeedIn /AcSensor/Count /AcSensor/0/Voltage /AcSensor/0/Current /AcSensor/0/Power /AcSensor/0/Energy /AcSensor/0/Location /AcSensor/0/Phase /Devices/0/Version /Devices/0/ProductId /Devices/0/FirmwareVersion /Devices/0/SerialNumber /Devices/0/Assistants /Devices/0/Diagnostics/UBatRipple /Devices/0/Diagnostics/UBatTerminal /Devices/0/Ac/In/P /Devices/0/Ac/Out/P /Devices/0/Ac/Inverter/P /Devices/0/Settings/ReadProgress /Devices/0/Settings/ResetRequired /Devices/0/Settings/UpsFunction AbsToFloatSocReset AbsorptionVoltage AcCurrentLimit AcHighSwitchInputOff AcHighSwitchInputOn AcLowSwitchInputOff AcLowSwitchInputOn AssistCurrentBoostFactor BatteryCapacity ChargeCharacteristic ChargeCurrent ChargeEfficiency CurrentSensorFactor ExpectedPresenceFlags0 ExpectedPresenceFlags2 FlagsWord0 FlagsWord1 FlagsWord2 FlagsWord3 FloatVoltage FrequencyShiftStartDelay FrequencyShiftStopDelay FrequencyShiftUBatStart FrequencyShiftUBatStop GeneralGridSettingsInt GridCode GridSettingsInt0 GridSettingsInt1 GridSettingsInt10 GridSettingsInt11 GridSettingsInt12 GridSettingsInt13 GridSettingsInt14 GridSettingsInt15 GridSettingsInt16 GridSettingsInt17 GridSettingsInt18 GridSettingsInt19 GridSettingsInt2 GridSettingsInt20 GridSettingsInt21 GridSettingsInt22 GridSettingsInt23 GridSettingsInt24 GridSettingsInt25 GridSettingsInt26 GridSettingsInt27 GridSettingsInt28 GridSettingsInt29 GridSettingsInt3 GridSettingsInt30 GridSettingsInt31 GridSettingsInt32 GridSettingsInt33 GridSettingsInt34 GridSettingsInt35 GridSettingsInt36 GridSettingsInt37 GridSettingsInt38 GridSettingsInt39 GridSettingsInt4 GridSettingsInt40 GridSettingsInt41 GridSettingsInt42 GridSettingsInt43 GridSettingsInt44 GridSettingsInt45 GridSettingsInt46 GridSettingsInt47 GridSettingsInt48 GridSettingsInt49 GridSettingsInt5 GridSettingsInt50 GridSettingsInt51 GridSettingsInt52 GridSettingsInt53 GridSettingsInt54 GridSettingsInt55 GridSettingsInt56 GridSettingsInt57 GridSettingsInt58 GridSettingsInt59 GridSettingsInt6 GridSettingsInt60 GridSettingsInt7 GridSettingsInt8 GridSettingsInt9 GridSettingsValidCheckerA GridSettingsValidCheckerB IBatForStopAbsorption IInvLimitDuringAssist InfoId0 InvertRedundancy InverterDcRestartVoltage InverterDcShutdownVoltage InverterOutputVoltage LoadForStartingAesMode LowDcAlarmLevel MaximumAbsorptionTime MyShortId NrOfSlaves OffsetForEndingAesMode PermanentFlags0 RelativePhaseInfo RepeatedAbsorptionInterval RepeatedAbsorptionTime SecondInputCurrentLimit SocStartInvert SocStopInvert SocWhenBulkfinished SpecialThreePhase SystemPeriod TBatStopCharge TempCompensationSlope UBatDontCharge VirtualSwitchUsage VllTempCompensation Vs2OffDcVoltageFor Vs2OffDcVoltageHigh Vs2OffLoadLowerFor Vs2OffLoadLowerThen Vs2OnLoadhigherThen Vs2OnLowDcVoltageFor Vs2OnLowerDcVoltageThen Vs2OnSocLevel Vs2TimeOnloadHigh VsMinimumOnTime VsOffBulkFinishedFor VsOffLoadLowerThen VsOffNoBatteryAlarm VsOffNoOnConditionFor VsOffNoOverloadAlarm VsOffNoRippleAlarm VsOffNoTemperatureAlarm VsOffWhenChargingFor VsOffWhenNoAcInputFor VsOffWhenUDcHigherThen VsOffWhenUDcLowerThen VsOnLoadHigherThen VsOnWhenUdcHigherThen VsOnWhenUdcLowerThen VsTimeOffDcVoltageHigh VsTimeOffDcVoltageLow VsTimeOffFanDisabled VsTimeOffLoadLow VsTimeOnDcVoltageHigh VsTimeOnDcVoltageLow VsTimeOnFanEnabled VsTimeOnLoadHigh VsTimeOnLowBatteryAlarm VsTimeOnOverloadAlarm VsTimeOnRippleAlarm VsTimeOnTemperatureAlarm VsTimeOnWhenNotCharging AcceptWideInputFrequency AllowEnableFeedIn AllowIMainsHigherThanMaxRelayCurrent ConfiguredForVeBusBms DisableAes DisableCharger DisableGroundRelay DisableHighRippleCheck DisableLowRippleCheck DisableVSense DisableWaveCheck DisableWaveCheckInverted DontStopAfter10hBulk DynamicCurrentLimit EnableReducedFloat FrequencyChangesByUBat FrequencyChangesByVs InvertVs2Behaviour InvertVsBehaviour Is60Hz LithiumBattery LowPowerShutdownInAes MultiPhaseLeader MultiPhaseSystem PowerAssistEnabled PreferRenewableEnergy RemoteOverrulesAc1 RemoteOverrulesAc2 TabularPlateTractionCurve UseBulkChargeInsteadOfBulkTime Vs2OffWhenAc1Available VsOffBatteryWarning VsOffOverloadWarning VsOffRippleWarning VsOffTemperatureWarning VsOnBatteryWarning VsOnBulkProtection VsOnOverloadWarning VsOnRippleWarning VsOnTemperatureWarning VsOnWhenFailurePresent WeakAcInput'
